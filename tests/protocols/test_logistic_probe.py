"""Tests of the logistic probe against scikit-learn, and of its optimality certificates."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tests.making.adaptation import adaptation
from vitbench.protocols.logistic_probe import TOLERANCE, LogisticProbe, fit

GRID = np.logspace(-6, 5, 45)


@pytest.fixture(scope="module")
def digits():
    x, y = load_digits(return_X_y=True)
    return x.astype(np.float32) / 16, y.astype(np.int64)


def objective(model, x, y, c):
    """Return scikit-learn's objective, from its own predictions."""
    losses = -model.predict_log_proba(x.astype(np.float64))[np.arange(len(y)), y]
    return losses.sum() + (model.coef_**2).sum() / (2 * c)


def sklearn_fit(x, y, c):
    # Its stopping rule is absolute; newton-cholesky reaches the optimum if the problem is small enough.
    return LogisticRegression(C=c, solver="newton-cholesky", tol=1e-10, max_iter=500).fit(
        x.astype(np.float64), y
    )


def uniform(n, d):
    """Return random features that say nothing about the labels."""
    return np.random.default_rng([n, d]).random((n, d))


def test_every_c_of_the_grid_reaches_scikit_learns_optimum(digits):
    x, y = digits[0][:600, ::4], digits[1][:600]
    rest, truth = digits[0][600:, ::4], digits[1][600:]
    found = fit(torch.tensor(x), torch.tensor(y), 10, (1 / GRID).tolist())
    assert float(found.relative_gap.max()) <= TOLERANCE
    for i in range(0, 45, 4):
        reference = sklearn_fit(x, y, GRID[i])
        best = objective(reference, x, y, GRID[i])
        assert float(found.objective[i]) == pytest.approx(best, rel=1e-6), GRID[i]
        ours = found.scores(torch.tensor(rest), i).argmax(1).numpy()
        # With weak regularisation the optimum is flat: a single prediction may differ, but not the accuracy.
        assert abs((ours == truth).mean() - reference.score(rest, truth)) <= 1e-3, GRID[i]


@pytest.mark.parametrize("c", [1e-3, 1.0, 100.0])
def test_fewer_examples_than_features_and_two_classes(digits, c):
    """The dual rotation, and one weight vector for two classes."""
    pick = np.flatnonzero(digits[1] < 2)[:40]
    x, y = digits[0][pick], digits[1][pick]
    found = fit(torch.tensor(x), torch.tensor(y), 2, 1 / c)
    reference = LogisticRegression(C=c, tol=1e-10, max_iter=10000).fit(x.astype(np.float64), y)
    ours = found.scores(torch.tensor(x)).numpy()
    np.testing.assert_allclose(ours[:, 1] - ours[:, 0], reference.decision_function(x), atol=1e-2, rtol=1e-2)
    assert float(found.objective[0]) == pytest.approx(objective(reference, x, y, c), rel=1e-5)


def test_the_duality_gap_is_never_below_the_true_gap(digits):
    x, y = torch.tensor(digits[0][:300]), torch.tensor(digits[1][:300])
    exact = fit(x, y, 10, [100.0, 1.0, 0.01], tolerance=1e-10)
    rough = fit(x, y, 10, [100.0, 1.0, 0.01], tolerance=1e-2)
    true = (rough.objective - exact.objective) / rough.objective
    assert (true <= rough.duality_gap + 1e-12).all()
    assert (true >= -1e-9).all()


def test_shifting_the_features_changes_nothing_but_the_bias(digits):
    x, y = torch.tensor(digits[0][:300]).double(), torch.tensor(digits[1][:300])
    found, shifted = fit(x, y, 10, 0.1), fit(x + 1000.0, y, 10, 0.1)
    torch.testing.assert_close(found.scores(x), shifted.scores(x + 1000.0), atol=1e-3, rtol=1e-3)


def test_a_class_without_examples_is_never_predicted_and_constant_features_work():
    x, y = torch.ones(12, 5), torch.tensor([0, 2] * 5 + [2, 2])
    found = fit(x, y, 4, [1.0, 1e-3])
    assert found.scores(x, 1).argmax(1).tolist() == [2] * 12
    assert torch.isfinite(found.scores(x).float()).all()


def test_l2_must_be_positive():
    with pytest.raises(ValueError, match="positive"):
        fit(torch.ones(2, 2), torch.tensor([0, 1]), 2, [1.0, 0.0])


def test_c_is_chosen_on_validation_and_every_trial_is_certified(digits):
    data = adaptation(*digits, train=300, val=200)
    adapted = LogisticProbe().adapt(data)
    assert len(adapted.trials) == 45
    (chosen,) = (trial for trial in adapted.trials if trial.chosen)
    most = max(trial.value for trial in adapted.trials)
    assert chosen.options["c"] == min(t.options["c"] for t in adapted.trials if t.value == most)
    assert all(trial.certificate["relative_gap"] <= TOLERANCE and not trial.note for trial in adapted.trials)
    x = torch.tensor(digits[0])
    expected = LogisticRegression(C=chosen.options["c"], tol=1e-8, max_iter=5000).fit(
        digits[0][:500], digits[1][:500]
    )
    assert (adapted.head(x[500:]).argmax(1).numpy() == expected.predict(digits[0][500:])).mean() > 0.999


def test_without_validation_data_a_tenth_of_train_is_held_out(digits):
    notes = []
    adapted = LogisticProbe(values=5).adapt(adaptation(*digits, train=300, val=0, notes=notes))
    assert len(adapted.trials) == 5
    assert any("a tenth of train" in note for note in notes)
    notes.clear()
    few = LogisticProbe().adapt(adaptation(*digits, train=20, val=0, notes=notes))
    assert few.trials[0].options == {"c": 1.0}
    assert few.trials[0].certificate["relative_gap"] <= TOLERANCE
    assert any("too few labels" in note for note in notes)


@pytest.mark.parametrize(
    ("x", "y", "classes"),
    [
        (uniform(40, 192), np.arange(40), 40),
        (uniform(40, 192), np.zeros(40, np.int64), 5),
        (uniform(2, 192), np.arange(2), 2),
        (np.full((40, 192), 0.3), np.arange(40) % 3, 3),
        (np.tile(uniform(5, 192), (8, 1)), np.arange(40) % 7, 7),
        (uniform(40, 192) * 1e4, np.arange(40) % 7, 7),
        (uniform(40, 192) * 1e-6, np.arange(40) % 7, 7),
        (uniform(40, 1), np.arange(40) % 3, 3),
    ],
    ids=["class-each", "one-class", "two-examples", "constant", "copies", "huge", "tiny", "one-feature"],
)
def test_degenerate_data_give_certified_finite_solutions(x, y, classes):
    found = fit(torch.from_numpy(x).float(), torch.from_numpy(y), classes, np.logspace(-5, 6, 45))
    assert (found.relative_gap <= 1e-6).all()
    assert all(found.scores(torch.from_numpy(x), i).isfinite().all() for i in range(45))


@pytest.fixture(scope="module")
def balanced():
    """Digits, equally many of each class in the first 1,200, and the others."""
    x, y = load_digits(return_X_y=True)
    first = np.concatenate([np.flatnonzero(y == k)[:120] for k in range(10)])
    rest = np.setdiff1d(np.arange(len(y)), first)
    return x[first], y[first], x[rest], y[rest]


@pytest.mark.parametrize("scale", [1e-6, 1e-4, 1e-2, 1.0])
@pytest.mark.parametrize("c", [1e-6, 1e-3, 1.0, 1e3])
def test_no_penalty_and_no_scale_gives_a_constant_predictor(balanced, scale, c):
    """Of balanced classes even the faintest weights rank them: near W = 0, as the limit does, where all are alike."""
    x, y, rest, _ = balanced
    ours = (
        fit(torch.tensor(x * scale), torch.tensor(y), 10, 1 / c)
        .scores(torch.tensor(rest * scale))
        .argmax(1)
        .numpy()
    )
    strength = c * scale**2  # alone decides: scikit-learn is asked at the features' own scale
    assert len(set(ours)) == 10
    if strength > 1e-8:  # its stopping rule is absolute: below, it stops where it starts
        assert (ours == sklearn_fit(x, y, strength).predict(rest)).mean() > 0.999
    else:
        limit = fit(torch.tensor(x), torch.tensor(y), 10, 1e7).scores(torch.tensor(rest)).argmax(1).numpy()
        assert (ours == limit).mean() > 0.99


def test_trials_and_refit_are_one_estimator(balanced):
    """A solution on the path over C predicts what a fit of that C alone predicts."""
    x, y, rest, _ = (torch.tensor(part) for part in balanced)
    path = fit(x * 0.01, y, 10, (1 / GRID).tolist())
    for i in range(0, 45, 4):
        alone = fit(x * 0.01, y, 10, 1 / GRID[i])
        same = path.scores(rest * 0.01, i).argmax(1) == alone.scores(rest * 0.01).argmax(1)
        assert float(same.double().mean()) > 0.998, GRID[i]


def test_what_makes_a_result_doubtful_is_noted(digits):
    notes = []
    x = digits[0] * 1e-4
    LogisticProbe(values=5).adapt(adaptation(x, digits[1], train=300, val=200, notes=notes))
    assert any("at the end of its grid" in note for note in notes)
    notes.clear()
    LogisticProbe(c=1e-6).adapt(adaptation(x, digits[1], train=300, val=200, notes=notes))
    assert any("every training image is predicted to be of one class" in note for note in notes)


CHANGES = [(scale, 0.0) for scale in (1e-6, 1e-3, 1.0, 1e3, 1e6)] + [(1.0, 1e5)]


@pytest.mark.parametrize(("scale", "offset"), CHANGES)
@pytest.mark.parametrize("c", [1e-3, 0.1])
def test_standardised_predictions_are_scikit_learns_whatever_the_scale(digits, scale, offset, c):
    """Of the float32 features that are given: with 1e5 added, little of them is left."""
    x, y = (digits[0] * scale + offset).astype(np.float32), digits[1]
    adapted = LogisticProbe(c=c, standardise=True).adapt(adaptation(x, y, train=500, val=300))
    reference = make_pipeline(StandardScaler(), LogisticRegression(C=c, tol=1e-8, max_iter=5000))
    reference.fit(x[:800].astype(np.float64), y[:800])
    found = adapted.head(torch.tensor(x[800:])).argmax(1).numpy()
    assert (found == reference.predict(x[800:].astype(np.float64))).mean() > 0.997
    assert adapted.trials[0].certificate["relative_gap"] <= TOLERANCE


def test_standardised_the_same_c_is_chosen_at_every_scale(digits):
    chosen = set()
    for scale in (1e-6, 1.0, 1e6):
        x = (digits[0] * scale).astype(np.float32)
        trials = (
            LogisticProbe(values=9, standardise=True)
            .adapt(adaptation(x, digits[1], train=300, val=200))
            .trials
        )
        chosen |= {(trial.options["c"], trial.value) for trial in trials if trial.chosen}
    assert len(chosen) == 1


def test_a_constant_feature_is_left_as_it_is(digits):
    x = digits[0].astype(np.float32).copy()
    x[:, 0] = 12345.678
    data = adaptation(x, digits[1], train=300, val=200)
    scores = LogisticProbe(c=0.1, standardise=True).adapt(data).head(torch.tensor(x[500:]))
    without = adaptation(x[:, 1:], digits[1], train=300, val=200)
    expected = LogisticProbe(c=0.1, standardise=True).adapt(without).head(torch.tensor(x[500:, 1:]))
    assert torch.equal(scores.argmax(1), expected.argmax(1))
