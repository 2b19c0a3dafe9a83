"""Comparisons against scipy and statsmodels on cases where the answer is known."""

import json

import numpy as np
import pytest
import scipy.stats
from statsmodels.stats.contingency_tables import mcnemar as reference_mcnemar
from statsmodels.stats.multitest import multipletests

import vitbench
from tests.making.command import vitbench as command
from vitbench.core.errors import UsageError
from vitbench.report.compare import compare, ranks
from vitbench.report.statistics import bootstrap_means, difference, holm, mcnemar, rank_intervals
from vitbench.store.run_dir import RunDir

RNG = np.random.default_rng(5)


@pytest.mark.parametrize("only", [(0, 0), (1, 0), (7, 3), (40, 12), (200, 260)])
def test_mcnemar_is_statsmodels_exact_test(only):
    a = np.repeat([True, False, True, False], [*only, 50, 30])
    b = np.repeat([False, True, True, False], [*only, 50, 30])
    table = [[50, only[0]], [only[1], 30]]
    wanted = reference_mcnemar(table, exact=True).pvalue if any(only) else 1.0
    assert mcnemar(a, b) == pytest.approx(wanted, rel=1e-12)


def test_holm_is_statsmodels():
    p_values = [0.01, 0.2, 0.03, 0.5, 0.03, 1e-9]
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1])
    assert holm([]) == []


def test_the_paired_interval_is_scipys_bootstrap():
    a = (RNG.random(400) < 0.6).astype(float)
    b = np.where(RNG.random(400) < 0.8, a, 1 - a)
    ours = difference(a, b, draws=20_000)
    found = scipy.stats.bootstrap(
        (a - b,),
        np.mean,
        n_resamples=20_000,
        method="percentile",
        rng=np.random.default_rng(1),
        vectorized=True,
    ).confidence_interval
    assert ours.value == pytest.approx((a - b).mean())
    assert (ours.low, ours.high) == pytest.approx((found.low, found.high), abs=0.004)


def test_bootstrap_means_have_the_right_mean_spread_and_pairing():
    columns = np.column_stack([RNG.random(300) < 0.3, RNG.random(300) < 0.7]).astype(float)
    means = bootstrap_means(columns, np.random.default_rng(0), 20_000)
    assert means.mean(0) == pytest.approx(columns.mean(0), abs=2e-3)
    assert means.std(0) == pytest.approx(columns.std(0) / np.sqrt(300), rel=0.03)
    assert np.corrcoef(means.T)[0, 1] == pytest.approx(np.corrcoef(columns.T)[0, 1], abs=0.03)


def test_the_interval_has_its_nominal_coverage():
    held = 0
    for trial in range(300):
        generator = np.random.default_rng(trial)
        a, b = (generator.random(150) < 0.7).astype(float), (generator.random(150) < 0.6).astype(float)
        found = difference(a, b, seed=trial, draws=1000)
        held += found.low <= 0.1 <= found.high
    assert 0.90 <= held / 300 <= 0.98


def test_rank_intervals_separate_clear_ranks_from_unclear_ones():
    good = {f"t{i}": (RNG.random(200) < 0.9).astype(float) for i in range(9)}
    twins = [{t: np.roll(v, 1 + i) * (RNG.random(200) < 0.7) for t, v in good.items()} for i in range(2)]
    found = rank_intervals({"good": good, "a": twins[0], "b": twins[1]})
    assert (found["good"].low, found["good"].high) == (1, 1)
    assert (found["a"].low, found["a"].high) == (2, 3)
    with pytest.raises(ValueError, match="missing"):
        rank_intervals({"good": good, "less": {"t0": good["t0"]}})


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
    rows = compare([run], "coarse", "fine")
    assert {row.budget: row.seeds for row in rows} == {"2-shot": 2, "full": 1}
    for row in rows:
        assert row.gap.value == pytest.approx(row.second - row.first)
        assert row.gap.low > 0
        assert row.p <= row.p_holm < 0.01
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
    rows = compare([run, tmp_path / "other"], "coarse", "renamed")
    assert sorted(row.budget for row in rows) == ["1-shot", "2-shot", "full"]


def test_ranks_of_a_run(run):
    for rows in ranks([run]).values():
        assert rows["fine"].value == 1
        assert rows["coarse"].value == 2


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
