import json

import numpy as np
import pytest
import torch

from tests.making import paths
from tests.making.adaptation import adaptation
from vitbench.data.budgets import draw_shots
from vitbench.protocols.ridge_probe import BIAS, GRID, STD_FLOOR, RidgeProbe, fit

GOLDEN = np.load(paths.GOLDEN / "fewshot_ridge.npz")
EXPECTED = json.loads(str(GOLDEN["expected"]))


@pytest.mark.parametrize("setting", sorted({key.rsplit("/", 1)[0] for key in EXPECTED}))
def test_accuracies_match_big_vision(setting):
    seed, shots = (int(part.lstrip("sedhot")) for part in setting.split("/"))
    chosen = draw_shots(GOLDEN["y_train"], shots, seed)
    x, y = torch.from_numpy(GOLDEN["X_train"][chosen]), torch.from_numpy(GOLDEN["y_train"][chosen])
    solution = fit(x, y, int(GOLDEN["y_train"].max()) + 1, GRID)
    for key, wanted in EXPECTED.items():
        if key.startswith(f"{setting}/"):
            l2 = float(key.rsplit("l2_", 1)[1])
            predicted = solution.scores(torch.from_numpy(GOLDEN["X_test"]), l2).argmax(1).numpy()
            hits = int((predicted == GOLDEN["y_test"]).sum())
            assert hits == round(wanted * len(predicted)), key  # the golden file has float32 means


@pytest.mark.parametrize(("n", "d"), [(12, 30), (30, 12), (12, 12)])
@pytest.mark.parametrize("l2", [1e-2, 1.0, 1024.0])
def test_scores_match_the_normal_equations_with_a_bias_column(n, d, l2):
    rng = np.random.default_rng(n * d)
    x, z, y = rng.normal(size=(n, d)), rng.normal(size=(9, d)), rng.integers(0, 4, n)
    mean, std = x.mean(0), x.std(0) + STD_FLOOR
    pad = lambda a: np.concatenate([(a - mean) / std, np.full((len(a), 1), BIAS)], axis=1)  # noqa: E731
    targets = 2 * np.eye(4)[y] - 1
    weights = np.linalg.solve(pad(x).T @ pad(x) + l2 * np.eye(d + 1), pad(x).T @ targets)
    found = fit(torch.from_numpy(x), torch.from_numpy(y), 4, l2).scores(torch.from_numpy(z), l2)
    assert np.abs(found.numpy() - pad(z) @ weights).max() < 1e-7


def test_l2_must_be_positive():
    with pytest.raises(ValueError, match="positive"):
        fit(torch.ones(2, 3), torch.tensor([0, 1]), 2, 0.0)


def test_constant_features_give_finite_scores():
    x = torch.cat([torch.randn(10, 3, generator=torch.Generator().manual_seed(0)), torch.ones(10, 2)], dim=1)
    assert torch.isfinite(fit(x, torch.arange(10) % 2, 2, 1.0).scores(x, 1.0)).all()


@pytest.mark.parametrize(("n", "d"), [(20, 30), (30, 8)])
def test_closed_form_leave_one_out_matches_refitting(n, d):
    rng = np.random.default_rng(n)
    x, y = rng.normal(size=(n, d)), rng.integers(0, 3, n)
    x[:, 0] += y
    solution = fit(torch.from_numpy(x), torch.from_numpy(y), 3, 1.0)
    padded = np.concatenate([(x - x.mean(0)) / (x.std(0) + STD_FLOOR), np.full((n, 1), BIAS)], axis=1)
    targets = 2 * np.eye(3)[y] - 1
    for l2 in (0.01, 1.0, 100.0):
        hits = 0
        for i in range(n):
            rest = np.arange(n) != i
            gram = padded[rest].T @ padded[rest] + l2 * np.eye(d + 1)
            hits += (padded[i] @ np.linalg.solve(gram, padded[rest].T @ targets[rest])).argmax() == y[i]
        assert solution.left_out_top1(torch.from_numpy(x), torch.from_numpy(y), [l2]) == [
            pytest.approx(hits / n)
        ]


@pytest.mark.parametrize("n", [20, 200])
def test_joint_accuracies_of_all_l2_match_float64_scores(n):
    rng = np.random.default_rng(n)
    y = torch.from_numpy(rng.integers(0, 5, n + 500))
    x = torch.from_numpy(rng.normal(size=(n + 500, 40))).float() + torch.nn.functional.one_hot(y, 40)
    solution = fit(x[:n], y[:n], 5, GRID)
    wanted = [(solution.scores(x[n:], l2).argmax(1) == y[n:]).double().mean().item() for l2 in GRID]
    assert solution.top1(x[n:], y[n:], GRID) == pytest.approx(wanted, abs=2.1e-3)  # one image in 500 may tip
    assert solution.top1(x[n:], y[n:], GRID[10:21]) == pytest.approx(wanted[10:21], abs=1e-9)


def test_l2_is_chosen_as_the_option_says():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 120)
    x = (rng.normal(size=(120, 10)) + 2 * np.eye(10)[y]).astype(np.float32)
    by_val = RidgeProbe().adapt(adaptation(x, y, train=60, val=60))
    left_out = RidgeProbe(l2="loo").adapt(adaptation(x, y, train=60, val=60))
    notes = []
    fixed = RidgeProbe(l2="val").adapt(adaptation(x, y, train=60, val=0, notes=notes))
    assert {trial.split for trial in by_val.trials} == {"val"}
    assert {trial.metric for trial in left_out.trials} == {"left-out top1"}
    assert len(by_val.trials) == len(left_out.trials) == len(GRID)
    for adapted in (by_val, left_out):
        best = max(trial.value for trial in adapted.trials)
        tied = [trial.options["l2"] for trial in adapted.trials if trial.value == best]
        assert [trial.options["l2"] for trial in adapted.trials if trial.chosen] == [max(tied)]
    assert fixed.trials[0].options == {"l2": 1024.0}
    assert notes == ["no validation data to choose l2 on: used 1024"]
