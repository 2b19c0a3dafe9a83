"""Sets of ranks: clear cases, ties, and what draws again."""

import re
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest

from tests.making.command import environment
from tests.making.paths import TESTS
from tests.making.simulated_scores import World
from vitbench.report.ranks import column_of_estimates, column_of_tables, may_be_first, ranked
from vitbench.report.statistics import crossed

RNG = np.random.default_rng(5)


def of(tables):
    """The ranks of backbones by one task."""
    exact = [Fraction(int(table.sum()), table.size) for table in tables]
    return ranked([column_of_tables(tables)], exact)


def test_columns_are_made_of_crossed_estimates():
    tables = list(World((0.6, 0.9), 300, 3, 0.02).draw(RNG))
    column = column_of_tables(tables)
    for found, table in zip(column.estimates, tables, strict=True):
        wanted = crossed(table.astype(float))
        for part in ("mean", "images", "image_noise", "seeds", "seed_noise"):
            assert getattr(found, part) == pytest.approx(getattr(wanted, part), rel=1e-3, abs=1e-12)
    by_image = np.stack([table.mean(0) for table in tables])
    assert column.covariance == pytest.approx(np.cov(by_image) / 300, rel=1e-4)


def test_clear_ranks_are_single_and_unclear_ones_are_not():
    clear, twin = World((0.95, 0.70), 2000, 1, 0).draw(RNG)
    found = of([clear, twin, np.roll(twin, 7, axis=1)])
    assert (found[0].low, found[0].high, found[0].first) == (1, 1, True)
    for each in found[1:]:
        assert (each.low, each.high, each.first) == (2, 3, False)
        assert each.low_at_once <= each.low <= each.value <= each.high <= each.high_at_once


def test_seeds_widen_the_sets():
    """Scores that are clear on these images are not, where another seed moves them by as much."""
    tables = list(World((0.80, 0.84), 20_000, 3, 0.0).draw(RNG))
    assert [each.first for each in of(tables)] == [False, True]
    spread = [table.copy() for table in tables]
    for table in spread:  # the same mean, with seeds six points apart
        for row, more in zip(table, (-1200, 0, 1200), strict=True):
            ones = int(row.sum()) + more
            row[:] = np.arange(row.size) < ones
    assert [each.first for each in of(spread)] == [True, True]


def test_equal_counts_are_ties_whatever_the_order_of_sums():
    """The floats of these means differ in the last bit."""
    exact = [
        sum(map(Fraction, parts), Fraction(0)) / 3
        for parts in (("1/10", "2/10", "3/10"), ("3/10", "2/10", "1/10"))
    ]
    tables = [np.array([[1, 0, 1, 0, 0]], np.uint8)] * 2
    found = ranked([column_of_tables(tables)], exact)
    assert [each.value for each in found] == [1.5, 1.5]
    assert all(each.first and (each.low, each.high) == (1, 2) for each in found)


def test_without_images_differences_are_less_clear():
    tables = list(World((0.80, 0.812), 5000, 1, 0).draw(np.random.default_rng(1)))
    exact = [Fraction(int(table.sum()), table.size) for table in tables]
    unknown = ranked([column_of_estimates([crossed(table.astype(float)) for table in tables], 5000)], exact)
    assert [each.first for each in of(tables)] == [False, True]
    assert [each.first for each in unknown] == [True, True]


def test_the_same_results_have_the_same_ranks_whatever_the_order_of_backbones():
    tables = list(World((0.80, 0.81, 0.70), 1000, 1, 0).draw(RNG))
    assert [each.value for each in of(tables)] == [each.value for each in of(tables[::-1])][::-1]
    assert of(tables) == of(tables)
    assert of(tables[:1])[0].first


def test_those_that_may_be_first_are_found_without_the_rest():
    for spread in (0.0, 0.002, 0.01):
        levels = tuple(0.8 + spread * np.arange(12))
        tables = list(World(levels, 2000, 3, 0.005).draw(RNG))
        exact = [Fraction(int(table.sum()), table.size) for table in tables]
        columns = [column_of_tables(tables)]
        quick, whole = may_be_first(columns, exact), [row.first for row in ranked(columns, exact)]
        assert [a and not b for a, b in zip(quick, whole, strict=True)] == [
            False
        ] * 12  # stepping down adds some
        assert sum(whole) - sum(quick) <= 2


@pytest.mark.slow
def test_the_benchmark_of_ranks_runs():
    """Its times are for a machine of its own; a fifth of the backbones take a small part of the memory."""
    command = [sys.executable, str(TESTS / "benchmarks" / "ranks.py"), "--backbones", "100", "--tasks", "3"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert int(re.search(r"(\d+) MiB", done.stdout)[1]) < 500
