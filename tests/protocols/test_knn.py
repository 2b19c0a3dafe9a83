import numpy as np
import pytest
import torch

from tests.making.adaptation import adaptation
from vitbench.protocols import knn
from vitbench.protocols.knn import GRID, TEMPERATURE, Knn, neighbours, vote

RNG = np.random.default_rng(0)
X, Y, Q = RNG.normal(size=(60, 8)), RNG.integers(0, 5, 60), RNG.normal(size=(17, 8))


def reference(k):
    """DINOv2's vote, example by example."""
    x, q = (a / np.linalg.norm(a, axis=1, keepdims=True) for a in (X, Q))
    scores = np.zeros((len(q), 5))
    for i, similarity in enumerate(q @ x.T):
        nearest = np.argsort(-similarity)[:k]
        for j in nearest:
            scores[i, Y[j]] += np.exp(similarity[j] / TEMPERATURE)
    return scores / scores.sum(1, keepdims=True)


def test_every_k_of_one_search_matches_the_reference(monkeypatch):
    monkeypatch.setattr(knn, "QUERIES_PER_BLOCK", 5)
    found = vote(*(torch.from_numpy(a) for a in (X, Y, Q)), [1, 10, 20, 500], 5).double()
    for scores, k in zip(found, (1, 10, 20, 60), strict=True):
        normalised = scores / scores.sum(1, keepdim=True)
        assert np.abs(normalised.numpy() - reference(k)).max() < 1e-5


def test_the_kth_neighbour_is_exact_where_float32_cannot_decide():
    x = RNG.normal(size=(40, 16)).astype(np.float32)
    x[1:30] = x[0] * RNG.uniform(0.5, 2, (29, 1)) + RNG.normal(size=(29, 16)) * 3e-4
    x = x.astype(np.float32)
    unit = x.astype(np.float64) / np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True)
    exact = np.argsort(-(unit @ unit.T), axis=1)
    ks = (1, 5, 10, 20)
    _, near = neighbours(torch.from_numpy(x), torch.from_numpy(x), ks)
    for k in ks:
        assert [set(row) for row in near[:, :k].tolist()] == [set(row) for row in exact[:, :k].tolist()]


def test_neighbours_with_equal_cosine_are_ordered_by_position():
    x = torch.ones(12, 4)
    assert neighbours(x, x[:2], [3, 7])[1].tolist() == [list(range(7))] * 2


@pytest.mark.parametrize("offset", [0.0, 1.0, 10.0, 1e3, 1e5])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_features_of_any_scale_and_offset_have_the_neighbours_of_float64(offset, scale):
    generator = torch.Generator().manual_seed(0)
    x = ((torch.randn(300, 24, generator=generator) + offset) * scale).float()
    queries = ((torch.randn(80, 24, generator=generator) + offset) * scale).float()
    cosines = (
        torch.nn.functional.normalize(queries.double(), dim=1)
        @ torch.nn.functional.normalize(x.double(), dim=1).T
    )
    wanted = cosines.topk(20, dim=1).indices
    _, near = neighbours(x, queries, [20])
    assert (near.sort(1).values == wanted.sort(1).values).all()


def clusters(n, seed):
    """Features (n, 8) float32 around five centres, and their classes."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 5, n)
    centres = np.random.default_rng(1).normal(size=(5, 8))
    return (centres[y] + rng.normal(size=(n, 8))).astype(np.float32), y


@pytest.mark.parametrize("k", [3, 20, "val"])
def test_only_training_images_vote(k):
    """DN:dinov2/eval/knn.py learns from train; validation, which chooses k, is no neighbour."""
    x, y = clusters(300, 2)
    queries = torch.from_numpy(clusters(50, 3)[0])
    adapted = Knn(k=k).adapt(adaptation(x, y, train=220, val=80))
    chosen = next(trial.options["k"] for trial in adapted.trials if trial.chosen)
    wanted = vote(torch.from_numpy(x[:220]), torch.from_numpy(y[:220]), queries, [chosen], 5)[0]
    assert torch.equal(adapted.head(queries), wanted)
    both = vote(torch.from_numpy(x), torch.from_numpy(y), queries, [chosen], 5)[0]
    assert not torch.equal(wanted, both)


def test_k_is_chosen_from_dinov2s_values_on_validation_and_the_record_says_so():
    assert GRID == (10, 20, 100, 200)  # DN:dinov2/eval/knn.py:90
    x, y = clusters(600, 4)
    notes = []
    adapted = Knn(k="val").adapt(adaptation(x, y, train=500, val=100, notes=notes))
    scores = vote(*(torch.from_numpy(a) for a in (x[:500], y[:500], x[500:])), GRID, 5)
    accuracies = [(one.argmax(1).numpy() == y[500:]).mean() for one in scores]
    assert [trial.value for trial in adapted.trials] == pytest.approx(accuracies)
    assert {trial.split for trial in adapted.trials} == {"val"}
    best = GRID[int(np.argmax(accuracies))]  # the first of equals is the smallest
    assert [trial.options["k"] for trial in adapted.trials if trial.chosen] == [best]
    assert (
        f"k = {best} was chosen from 10, 20, 100, 200 on 100 validation images; only training images vote"
        in notes
    )


def test_without_validation_data_k_is_20_and_the_record_says_so():
    x, y = clusters(40, 5)
    notes = []
    adapted = Knn(k="val").adapt(adaptation(x, y, train=40, val=0, notes=notes))
    assert [trial.options["k"] for trial in adapted.trials] == [20]
    assert notes == ["no validation data to choose k on: used 20"]
