"""Intervals over clusters of images, against statsmodels' cluster-robust variance and Wilson's interval."""

import numpy as np
import pytest
import scipy.stats
import statsmodels.api as sm

from vitbench.core.clusters import by_cluster, count, score_interval
from vitbench.core.wilson import wilson
from vitbench.report.statistics import crossed

RNG = np.random.default_rng(3)


@pytest.mark.parametrize("sizes", [[2] * 40, [1, 5, 2, 9, 3, 3, 7], [486] * 25])
def test_the_variance_is_that_of_statsmodels(sizes):
    clusters = RNG.permutation(np.repeat(np.arange(len(sizes)) * 7, sizes))
    values = (RNG.random(len(clusters)) < RNG.random(clusters.max() + 1)[clusters]).astype(float)
    fit = sm.OLS(values, np.ones(len(values))).fit(
        cov_type="cluster", cov_kwds={"groups": clusters, "use_correction": False}
    )
    groups = len(sizes)
    wanted = float(fit.bse[0]) ** 2 * groups / (groups - 1)
    table = by_cluster(values[None], clusters)
    assert table.shape == (1, groups)
    assert table.mean() == pytest.approx(values.mean())
    assert table.var(ddof=1) / groups == pytest.approx(wanted)


def test_each_row_keeps_its_mean():
    table, clusters = RNG.random((3, 50)), RNG.integers(0, 9, 50)
    assert by_cluster(table, clusters).mean(1) == pytest.approx(table.mean(1))


def test_clusters_of_one_image_change_nothing():
    table = (RNG.random((3, 300)) < 0.7).astype(float)
    found, wanted = crossed(by_cluster(table, np.arange(300))), crossed(table)
    assert (found.mean, found.images, found.seeds) == pytest.approx(
        (wanted.mean, wanted.images, wanted.seeds)
    )
    low, high = score_interval(table[0], np.arange(300))
    one = wilson(int(table[0].sum()), 300)
    assert (low, high) == pytest.approx(one, abs=1e-3)  # Student's t with 299 degrees of freedom
    assert score_interval(table[0]) == one


def test_copies_of_an_image_say_no_more_than_one():
    outcomes = (RNG.random(60) < 0.8).astype(float)
    found = score_interval(np.repeat(outcomes, 30), np.repeat(np.arange(60), 30))
    t = float(scipy.stats.t.ppf(0.975, 59))
    n, mean = 60, outcomes.mean()
    effective = mean * (1 - mean) * (1800 / 1799) / (mean * (1 - mean) / 59)
    centre = (mean + t * t / effective / 2) / (1 + t * t / effective)
    assert sum(found) / 2 == pytest.approx(centre)
    assert np.ptp(found) == pytest.approx(np.ptp(wilson(round(mean * n), n)), rel=0.05)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_without_errors_a_cluster_counts_as_one_image(value):
    found = score_interval(np.full(400, value), np.repeat(np.arange(20), 20))
    assert np.ptp(found) > np.ptp(wilson(round(20 * value), 20))  # Student's t is longer
    assert value in found


def test_one_cluster_says_nothing_of_others():
    assert score_interval(np.array([1.0, 0.0, 1.0]), np.zeros(3, np.int64)) == (0.0, 1.0)
    assert count(np.array([4, 4, 9])) == 2
    assert count(None) is None
