import numpy as np
import pytest
import torch

from vitbench.protocols import knn
from vitbench.protocols.knn import TEMPERATURE, neighbours, vote

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
