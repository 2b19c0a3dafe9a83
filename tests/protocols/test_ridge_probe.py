import json
from pathlib import Path

import numpy as np
import pytest
import torch

from vitbench.data.budgets import draw_shots
from vitbench.protocols.ridge_probe import BIAS, GRID, STD_FLOOR, fit

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "fewshot_ridge.npz")
EXPECTED = json.loads(str(GOLDEN["expected"]))


@pytest.mark.parametrize("place", sorted({key.rsplit("/", 1)[0] for key in EXPECTED}))
def test_accuracies_are_big_visions(place):
    seed, shots = (int(part.lstrip("sedhot")) for part in place.split("/"))
    chosen = draw_shots(GOLDEN["y_train"], shots, seed)
    x, y = torch.from_numpy(GOLDEN["X_train"][chosen]), torch.from_numpy(GOLDEN["y_train"][chosen])
    solution = fit(x, y, int(GOLDEN["y_train"].max()) + 1, GRID)
    for key, wanted in EXPECTED.items():
        if key.startswith(f"{place}/"):
            l2 = float(key.rsplit("l2_", 1)[1])
            predicted = solution.scores(torch.from_numpy(GOLDEN["X_test"]), l2).argmax(1).numpy()
            hits = int((predicted == GOLDEN["y_test"]).sum())
            assert hits == round(wanted * len(predicted)), key  # the golden file has float32 means


@pytest.mark.parametrize(("n", "d"), [(12, 30), (30, 12), (12, 12)])
@pytest.mark.parametrize("l2", [1e-2, 1.0, 1024.0])
def test_scores_are_those_of_the_padded_normal_equations(n, d, l2):
    rng = np.random.default_rng(n * d)
    x, z, y = rng.normal(size=(n, d)), rng.normal(size=(9, d)), rng.integers(0, 4, n)
    mean, std = x.mean(0), x.std(0) + STD_FLOOR
    pad = lambda a: np.concatenate([(a - mean) / std, np.full((len(a), 1), BIAS)], axis=1)  # noqa: E731
    targets = 2 * np.eye(4)[y] - 1
    weights = np.linalg.solve(pad(x).T @ pad(x) + l2 * np.eye(d + 1), pad(x).T @ targets)
    found = fit(torch.from_numpy(x), torch.from_numpy(y), 4, l2).scores(torch.from_numpy(z), l2)
    assert np.abs(found.numpy() - pad(z) @ weights).max() < 1e-7


def test_a_penalty_must_be_positive():
    with pytest.raises(ValueError, match="positive"):
        fit(torch.ones(2, 3), torch.tensor([0, 1]), 2, 0.0)


def test_constant_features_do_no_harm():
    x = torch.cat([torch.randn(10, 3, generator=torch.Generator().manual_seed(0)), torch.ones(10, 2)], dim=1)
    assert torch.isfinite(fit(x, torch.arange(10) % 2, 2, 1.0).scores(x, 1.0)).all()
