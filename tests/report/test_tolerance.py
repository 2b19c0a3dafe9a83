"""Tolerances to published values: what they cover, and where there are none."""

import numpy as np
import pytest
import scipy.stats

from vitbench.core.registry import PROTOCOLS
from vitbench.published import published
from vitbench.report.published_match import PublishedMatch, statistic_text, tally
from vitbench.report.seeded import NO_TRAINING_DATA, NOTHING_RANDOM
from vitbench.report.tolerance import Runs, SeedSpread, Tolerance, pooled, statistic_of, tolerance_of

UNKNOWN = Tolerance(None, "unknown")


def test_the_pooled_spread_is_that_of_an_analysis_of_variance():
    cells = [[0.8, 0.82, 0.81], [0.5, 0.52], [0.9]]
    squares = sum(np.var(cell, ddof=1) * (len(cell) - 1) for cell in cells[:2])
    found = pooled(cells)
    assert (found.std, found.freedom) == (pytest.approx((squares / 3) ** 0.5), 3)
    assert pooled([[0.5], [0.6]]) is None
    assert pooled([[0.5, 0.5]]) is None  # equal seeds say nothing of the next one
    assert pooled([]) is None


def test_two_spreads_are_welchs_test():
    generator = np.random.default_rng(0)
    one, two = generator.normal(0.9, 0.01, 3), generator.normal(0.9, 0.02, 5)
    ours = SeedSpread(float(one.std(ddof=1)), 2)
    found = tolerance_of(Runs(0.9, 3), Runs(0.9, 5), ours, float(two.std(ddof=1)), seeded=True)
    interval = scipy.stats.ttest_ind(one, two, equal_var=False).confidence_interval(0.95)
    assert found.value == pytest.approx((interval.high - interval.low) / 2)


def test_a_spread_that_only_the_source_prints_is_used_for_both():
    found = tolerance_of(Runs(0.9, 1), Runs(0.9, 3), None, 0.01, seeded=True)
    assert found.value == pytest.approx(scipy.stats.t.ppf(0.975, 2) * 0.01 * (1 + 1 / 3) ** 0.5)


@pytest.mark.parametrize("count", [1, 3, 4, 5, 9])
def test_a_median_varies_more_than_a_mean(count):
    draws = np.median(np.random.default_rng(0).normal(size=(200_000, count)), axis=1)
    assert Runs(0.9, count, "median").share == pytest.approx(draws.var(), rel=0.1 if count > 5 else 0.02)
    assert Runs(0.9, count).share == 1 / count


@pytest.mark.parametrize("networks", [1, 4, 12])
@pytest.mark.parametrize("statistic", ["mean", "median"])
def test_a_tolerance_covers_what_it_states(networks, statistic):
    """Equal results with seeds of two points, of which the source prints no spread: 0.16 was covered when it was ignored."""
    generator, held = np.random.default_rng(1), []
    for _ in range(1500):
        cells = generator.normal(0.8, 0.02, (networks, 3))
        printed = getattr(np, statistic)(generator.normal(0.8, 0.02, 3))
        found = tolerance_of(
            Runs(cells[0].mean(), 3), Runs(printed, 3, statistic), pooled(cells), None, seeded=True
        )
        held.append(abs(cells[0].mean() - printed) <= found.value)
    assert 0.93 <= np.mean(held) <= 0.985


def test_there_is_none_without_a_spread_or_against_the_best_of_several():
    spread = SeedSpread(0.01, 4)
    assert tolerance_of(Runs(0.9, 1), Runs(0.9, 1), None, None, seeded=True) == UNKNOWN
    assert tolerance_of(Runs(0.9, 1), Runs(0.9, 1), None, 0.01, seeded=True) == UNKNOWN  # of one run
    assert tolerance_of(Runs(0.9, 3), Runs(0.9, 5, "best"), spread, None, seeded=True) == UNKNOWN


def test_the_statistic_is_read_from_what_sources_say():
    assert {row.statistic: statistic_of(row.statistic) for row in published() if row.statistic} == {
        "mean, std over 3 fine-tuning runs": "mean",
        "median, std over 3 runs": "median",
        "median, std over 3 fine-tuning runs (as in the BiT paper)": "median",
        "mean, min, max of 5 test runs; hyper-parameters chosen on (mini)val": "mean",
        "PyTorch column: median, min, max of >=5 runs (ImageNet: single run)": "median",
    }
    assert (statistic_of("best of 4"), statistic_of("")) == ("best", "mean")
    assert {statistic_text(row) for row in published() if not row.statistic} == {"", "3 runs", "5 runs"}


@pytest.mark.parametrize("name", NOTHING_RANDOM)
@pytest.mark.parametrize(("budget", "seeded"), [("full", False), ("1k", False), ("5-shot", True)])
def test_protocols_themselves_say_that_they_draw_nothing(name, budget, seeded):
    assert PROTOCOLS.make(name, {})[1].depends_on_seed(budget) is seeded


@pytest.mark.parametrize("name", NO_TRAINING_DATA)
def test_what_reads_no_training_data_draws_nothing_under_any_budget(name):
    assert not any(PROTOCOLS.make(name, {})[1].depends_on_seed(budget) for budget in ("full", "1k", "5-shot"))


def match(difference, tolerance, basis="seeds"):
    return PublishedMatch(0.8, None, "a paper", False, difference, tolerance, basis)


def test_a_tally_counts_what_chance_would_put_outside():
    matches = [
        match(0.02, 0.01),
        match(0.0, 0.01),
        match(0.1, 0.0011, "nothing random"),
        match(0.1, None, "unknown"),
    ]
    found = tally([*matches, match(0.01, 0.03)])
    assert (found.outside, found.known, found.expected) == (1, 3, pytest.approx(0.15))
    assert [each.verdict for each in (*matches, match(0.01, 0.03))] == [
        "outside",
        "within",
        "outside",
        "unknown",
        "wide",
    ]
