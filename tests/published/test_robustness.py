"""The baselines of effective robustness: lines through standard models, as ImageNet Testbed's code fits them."""

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import linregress

from vitbench.published.robustness import SET_NAMES, baseline, source


@pytest.mark.parametrize("name", SET_NAMES)
def test_lines_are_scipys_through_logits(name):
    found = baseline(name)
    x, y = np.asarray(found.points).T
    for line, side in zip(found.lines, (x <= found.pivot, x > found.pivot), strict=False):
        fitted = linregress(logit(x[side]), logit(y[side]))
        assert (line.slope, line.intercept) == pytest.approx((fitted.slope, fitted.intercept), abs=1e-9)
        assert line.models == side.sum()
        at = np.linspace(line.lowest, line.highest, 7)
        expected = expit(fitted.slope * logit(at) + fitted.intercept)
        assert [line.at(each) for each in at] == pytest.approx(expected, abs=1e-12)
    assert len(found.lines) == (2 if name == "a" else 1)
    assert len(found.points) >= 78


def test_models_that_made_imagenet_a_hard_divide_it():
    """ResNet-50, which its images were chosen against, is on neither line."""
    found = baseline("a")
    assert all(y > 0 for _, y in found.points)
    assert found.expected(0.9185) < 0.04
    assert found.expected(0.96) > 0.2


def test_standard_models_have_no_effective_robustness_on_average():
    for name in SET_NAMES:
        above = [y - baseline(name).expected(x) for x, y in baseline(name).points]
        assert abs(np.mean(above)) < 0.01, name


def test_what_no_standard_model_reaches_is_extrapolated():
    found = baseline("v2")
    assert [found.is_extrapolated(each) for each in (0.5, 0.6, 0.84, 0.9)] == [True, False, False, True]
    assert [found.expected(each) for each in (0.0, 1.0)] == [0.0, 1.0]


def test_other_sets_have_none():
    assert baseline("night") is None
    assert "2007.00644" in source()
