"""Intervals and p-values against statsmodels, published formulas and cases where the answer is known; `vitbench compare`."""

import json

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import statsmodels.formula.api as smf
from scipy.stats import binomtest
from statsmodels.stats.anova import anova_lm
from statsmodels.stats.multitest import multipletests

import vitbench
from tests.making.command import vitbench as command
from vitbench.core.errors import UsageError
from vitbench.report.compare import compare
from vitbench.report.rank_table import ranks
from vitbench.report.statistics import (
    Estimate,
    combined,
    crossed,
    difference,
    fraction_interval,
    holm,
    mean_of,
    of_scores,
)
from vitbench.store.run_dir import RunDir

RNG = np.random.default_rng(5)


def test_holm_is_statsmodels():
    p_values = [0.01, 0.2, 0.03, 0.5, 0.03, 1e-9]
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1])
    assert holm([]) == []


@pytest.mark.parametrize(("seeds", "n"), [(2, 7), (3, 40), (6, 25)])
def test_variances_are_those_of_the_two_way_layout(seeds, n):
    """V_images + V_seeds - V_rest from the mean squares of statsmodels' analysis of variance."""
    table = RNG.normal(size=(seeds, n)) + 2 * RNG.normal(size=(seeds, 1)) + RNG.normal(size=(1, n))
    long = pd.DataFrame(
        [(i, j, table[i, j]) for i in range(seeds) for j in range(n)], columns=["seed", "image", "y"]
    )
    squares = anova_lm(smf.ols("y ~ C(seed) + C(image)", long).fit())["mean_sq"] / (seeds * n)
    found = crossed(table)
    assert found.mean == pytest.approx(table.mean())
    assert found.seeds == pytest.approx(squares["C(seed)"])
    assert found.images == pytest.approx(max(squares["C(image)"] - squares["Residual"], 0))
    assert found.seed_noise == pytest.approx(squares["C(seed)"] ** 2 / (seeds - 1))


def test_where_only_seeds_vary_the_interval_is_students():
    scores = np.array([0.7, 0.72, 0.75, 0.69])
    found = crossed(np.repeat(scores[:, None], 50, axis=1)).interval
    wanted = scipy.stats.ttest_1samp(scores, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), abs=1e-6)


def test_two_sets_of_seeds_are_compared_by_welchs_test():
    one, two = np.array([0.7, 0.72, 0.75]), np.array([0.8, 0.88, 0.79, 0.85])
    tables = [np.repeat(each[:, None], 200_000, axis=1) for each in (one, two)]
    found, wanted = difference(*tables, paired=False), scipy.stats.ttest_ind(two, one, equal_var=False)
    interval = wanted.confidence_interval(0.95)
    assert (found.interval.low, found.interval.high) == pytest.approx((interval.low, interval.high), abs=1e-4)
    assert found.p == pytest.approx(wanted.pvalue, rel=1e-2)


def test_paired_seeds_are_compared_by_the_paired_test():
    one, two = np.array([0.7, 0.72, 0.75]), np.array([0.71, 0.74, 0.765])
    tables = [np.repeat(each[:, None], 10**6, axis=1) for each in (one, two)]
    wanted = scipy.stats.ttest_rel(two, one)
    assert difference(*tables, paired=True).p == pytest.approx(wanted.pvalue, rel=1e-2)
    assert difference(*tables, paired=False).p > 0.3  # what the seeds share is not used


@pytest.mark.parametrize(
    ("only_first", "only_second", "both"), [(0, 0, 40), (5, 0, 95), (12, 30, 900), (7, 3, 4000)]
)
def test_one_seed_is_compared_by_bonett_and_prices_interval(only_first, only_second, both):
    first = np.repeat([1.0, 0.0, 1.0], [only_first, only_second, both])[None]
    second = np.repeat([0.0, 1.0, 1.0], [only_first, only_second, both])[None]
    n = first.size + 2
    p12, p21 = (only_first + 1) / n, (only_second + 1) / n
    error = ((p12 + p21 - (p21 - p12) ** 2) / n) ** 0.5
    found = difference(first, second, paired=False)
    reach = (
        scipy.stats.t.ppf(0.975, n - 1) * error * (n / (n - 1)) ** 0.5
    )  # Student's for their normal deviate
    assert (found.interval.low, found.interval.high) == pytest.approx(
        (p21 - p12 - reach, p21 - p12 + reach), rel=1e-6
    )


def test_an_interval_excludes_zero_exactly_where_p_is_below_a_twentieth():
    for _ in range(300):
        seeds = int(RNG.integers(1, 5))
        first, second = ((RNG.random((seeds, 60)) < level).astype(float) for level in (0.7, 0.8))
        for paired in (True, False):
            found = difference(first, second, paired=paired)
            assert (found.interval.low > 0 or found.interval.high < 0) == (found.p < 0.05)


@pytest.mark.parametrize("hits", [0, 1, 90, 181, 199, 200])
def test_a_single_seeds_interval_is_wilsons(hits):
    n = 200
    wanted = binomtest(hits, n).proportion_ci(0.95, "wilson")
    found = fraction_interval(Estimate(hits / n, hits / n * (1 - hits / n) / (n - 1)), n)
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), abs=1e-6)


def test_without_images_an_interval_is_never_shorter():
    for _ in range(50):
        table = (RNG.random((3, 500)) < RNG.normal(0.8, 0.02, (3, 1))).astype(float)
        scores = table.mean(1)
        known, unknown = crossed(table), of_scores(scores, scores.mean() * (1 - scores.mean()) / 499)
        assert unknown.interval.low <= known.interval.low + 1e-9
        assert unknown.interval.high >= known.interval.high - 1e-9


def test_a_mean_over_tasks_has_the_variance_of_a_mean():
    parts = [Estimate(0.5, 4e-4, 0.0, 1e-4, 5e-9), Estimate(0.7, 1e-4)]
    found = mean_of(parts)
    assert (found.mean, found.images, found.seeds) == pytest.approx((0.6, 1.25e-4, 0.25e-4))
    assert found.seed_noise == pytest.approx(5e-9 / 16)
    assert combined(parts, [1, -1]).mean == pytest.approx(-0.2)


@pytest.mark.parametrize("size", [1, 2])
def test_the_smallest_test_sets_have_an_interval(size):
    for seeds in (1, 2):
        found = difference(np.ones((seeds, size)), np.zeros((seeds, size)), paired=True)
        assert found.interval.low < -1 <= found.mean
        assert 0 < found.p <= 1
        assert fraction_interval(crossed(np.ones((seeds, size))), size).low < 1


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    place = tmp_path_factory.mktemp("compare")
    suite = place / "s.yaml"
    suite.write_text(
        "name: c\nseeds: [0, 1]\nbudgets: [2-shot, full]\ntasks: [digits]\nprotocols: [ridge_probe]\nbackbones:\n"
        "  - {name: raw_pixels, size_px: 8, label: fine}\n  - {name: raw_pixels, size_px: 2, label: coarse}\n"
    )
    vitbench.run(suite, place / "run")
    return place / "run"


def test_two_backbones_on_the_same_images(run):
    found = compare([run], "coarse", "fine")
    rows = found.cells
    assert {row.budget: row.seeds for row in rows} == {"2-shot": (2, 2), "full": (1, 1)}
    assert {row.budget: row.paired for row in rows} == {"2-shot": True, "full": False}
    assert {row.scope for row in rows} == {
        "backbones"
    }  # the probe draws nothing but the images of N-shot budgets
    assert "2 complete cells" in found.family
    for row in rows:
        assert row.gap.value == pytest.approx(row.second - row.first)
        assert row.metric == "top1"
        assert row.p <= row.p_holm <= 1
    assert next(row for row in rows if row.budget == "full").p_holm < 1e-6
    scores = {
        (r.job.backbone.label, r.job.budget): r.metrics["top1"].value
        for r in vitbench.load_records(run)
        if r.job.seed == 0
    }
    full = next(row for row in rows if row.budget == "full")
    assert (full.first, full.second) == pytest.approx((scores["coarse", "full"], scores["fine", "full"]))


def test_unknown_backbones_are_reported(run):
    with pytest.raises(UsageError, match=r"no results of backbone 'corse'[\s\S]*coarse"):
        compare([run], "corse", "fine")


def test_only_what_is_compared_is_read(run, tmp_path):
    """Among thousands of records, reading the predictions of all took most of a minute."""
    wanted = compare([run], "coarse", "fine")
    suite = tmp_path / "t.yaml"
    suite.write_text(
        "name: c\nbudgets: [full]\ntasks: [digits]\nprotocols: [ridge_probe]\n"
        "backbones: [{name: raw_pixels, size_px: 3, label: other}]\n"
    )
    (other,) = vitbench.run(suite, tmp_path / "other")
    RunDir(tmp_path / "other").predictions_path(other.key).unlink()
    assert compare([run, tmp_path / "other"], "coarse", "fine") == wanted
    with pytest.raises(UsageError, match=r"the predictions of other"):
        compare([run, tmp_path / "other"], "coarse", "other")


def test_a_backbone_under_two_labels_is_compared_whole(run, tmp_path):
    """The label that it has last names all its records, also those that are under the other label."""
    suite = tmp_path / "t.yaml"
    suite.write_text(
        "name: c\nbudgets: [1-shot]\ntasks: [digits]\nprotocols: [ridge_probe]\n"
        "backbones: [{name: raw_pixels, size_px: 8, label: renamed}, {name: raw_pixels, size_px: 2, label: coarse}]\n"
    )
    vitbench.run(suite, tmp_path / "other")
    rows = compare([run, tmp_path / "other"], "coarse", "renamed").cells
    assert sorted(row.budget for row in rows) == ["1-shot", "2-shot", "full"]


def test_ranks_of_a_run(run):
    for rows in ranks([run]).values():
        assert (rows["fine"].rank.value, rows["coarse"].rank.value) == (1, 2)
        assert rows["fine"].rank.first
        assert rows["fine"].mean.low <= rows["fine"].mean.value <= rows["fine"].mean.high


def test_the_command_prints_both(run):
    shown = command("compare", run, "--backbones", "coarse", "fine").stdout
    assert "fine minus coarse" in shown
    assert "(Holm)" in shown
    assert json.loads(command("compare", run, "--json").stdout)


def test_two_backbones_with_one_label_are_distinguished(run, tmp_path):
    suite = tmp_path / "t.yaml"
    suite.write_text(
        "name: c\nbudgets: [full]\ntasks: [digits]\nprotocols: [ridge_probe]\nbackbones:\n"
        "  - {name: raw_pixels, size_px: 4, label: fine}\n"
    )
    vitbench.run(suite, tmp_path / "other")
    with pytest.raises(UsageError, match=r"no results of backbone 'fine'[\s\S]*fine #"):
        compare([run, tmp_path / "other"], "coarse", "fine")
    with pytest.raises(UsageError, match="with itself"):
        compare([run], "coarse", "coarse")


def test_only_backbones_with_all_tasks_are_ranked(run, tmp_path):
    suite = tmp_path / "t.yaml"
    text = "name: c\nbudgets: [full]\ntasks: [digits, photo_regions]\nprotocols: [ridge_probe]\nbackbones:\n"
    text += (
        "  - {name: raw_pixels, size_px: 8, label: whole}\n  - {name: raw_pixels, size_px: 4, label: other}\n"
    )
    suite.write_text(text)
    vitbench.run(suite, tmp_path / "run")
    (rows,) = ranks([tmp_path / "run"]).values()
    assert set(rows) == {"whole", "other"}
    for record in vitbench.load_records(tmp_path / "run"):
        if (record.job.backbone.label, record.job.task.name) == ("other", "digits"):
            (tmp_path / "run" / "records" / f"{record.key}.json").unlink()
    assert ranks([tmp_path / "run"]) == {}
    assert "nothing to rank" in command("compare", tmp_path / "run").stderr
