"""How sure a board is: intervals, rows that cannot be told from the best; one metric and one rule of completeness."""

from fractions import Fraction

import numpy as np
import pandas as pd
import pytest

from tests.making.boards import NAMES, VTAB, changed, component, made
from tests.making.boards import board as made_board
from vitbench.core.record import Metric
from vitbench.core.wilson import wilson
from vitbench.report.build import boards
from vitbench.report.compare import compare
from vitbench.report.export import export, markdown
from vitbench.report.outcomes import MOST_RECORDS, predictions_of
from vitbench.report.page import Extras, render
from vitbench.report.rank_table import ranks
from vitbench.report.statistics import crossed, fraction_interval, holm, mean_of
from vitbench.store.run_dir import RunDir

RNG = np.random.default_rng(2)


@pytest.fixture
def base(tiny_records):
    return tiny_records[0]


def outcomes(level, seeds=3, n=400):
    """Correctness (S, N) of networks that mostly fail on the same images."""
    difficulty = RNG.random(n)
    return (0.7 * difficulty + 0.3 * RNG.random((seeds, n)) < level).astype(float)


def saved(base, place, tables, metric="top1", protocol=None, expected=3):
    """A run directory with these outcomes, {(backbone, task): (S, N)}, and its records."""
    run, tasks, found = RunDir(place), tuple(dict.fromkeys(task for _, task in tables)), []
    for (backbone, task), table in tables.items():
        for seed, correct in enumerate(table):
            counted = correct[~np.isnan(correct)]
            hits, n = int(counted.sum()), len(counted)
            low, high = wilson(hits, n)
            more = {"protocol": protocol} if protocol else {}
            record = made(base, backbone, task, seed, 0.5, tasks=tasks, seeds=expected, **more)
            data = record.data.model_copy(update={"n_test": len(correct)})
            values = {metric: Metric(value=hits / n, ci_low=low, ci_high=high, n=n)}
            if metric != "top1":
                values["top1"] = Metric(value=0.5, ci_low=0.4, ci_high=0.6, n=n)
            rows = pd.DataFrame(
                {"index": np.arange(len(correct)), f"{metric}_correct": correct, "top1_correct": correct}
            )
            found.append(run.write(record.model_copy(update={"metrics": values, "data": data}), rows))
    return found


def test_a_cell_has_the_interval_over_images_and_seeds(base, tmp_path):
    table = outcomes(0.6)
    records = saved(base, tmp_path, {("x", "a"): table})
    known = boards(records, predictions=predictions_of([tmp_path], records))[0].rows[0].cells[0]
    wanted = fraction_interval(crossed(table), 400)
    assert (known.value, known.ci_low, known.ci_high) == pytest.approx(
        (wanted.value, wanted.low, wanted.high)
    )
    assert known.known_images
    assert known.exact == Fraction(int(table.sum()), table.size)
    unknown = boards(records)[0].rows[0].cells[0]
    assert unknown.ci_low < known.ci_low < known.ci_high < unknown.ci_high
    assert "≥ 95 % interval, 400 images, 3 seeds" in render(records)
    assert 'title="95 % interval, 400 images, 3 seeds' in render(
        records, Extras(predictions=predictions_of([tmp_path], records))
    )


def test_means_and_groups_have_intervals_over_fixed_tasks(base):
    (board,) = boards(made_board(base, NAMES[:2], tuple(VTAB)))
    row = board.rows[0]
    found = mean_of([row.cells[i].estimate for i in row.tasks])
    assert row.interval.value == pytest.approx(row.mean)
    assert (row.interval.low, row.interval.high) == pytest.approx((found.interval.low, found.interval.high))
    assert row.interval.high - row.interval.low < min(c.ci_high - c.ci_low for c in row.cells) / 2
    intervals = board.group_intervals(row)
    for (name, mean), interval in zip(board.group_means(row), intervals, strict=True):
        assert interval.value == pytest.approx(mean), name
        assert interval.low < mean < interval.high
    incomplete = boards(made_board(base, NAMES[:1], tuple(VTAB))[1:])[0]
    assert incomplete.rows[0].interval is None
    assert incomplete.group_intervals(incomplete.rows[0])[-1] is None


def test_one_seed_is_about_the_trained_network_unless_nothing_is_random(base):
    one = [changed(base, backbone="x", protocol="finetune", task="a", value=0.5, tasks=("a",))]
    knn = [changed(base, backbone="x", protocol="knn", task="a", value=0.5, tasks=("a",), budget="full")]
    shots = [changed(base, backbone="x", protocol="knn", task="a", value=0.5, tasks=("a",), budget="5-shot")]
    assert [boards(r)[0].rows[0].one_network for r in (one, knn, shots)] == [True, False, True]
    assert "this trained network only" in render(one)
    assert "trained network" not in render(knn)
    assert "these trained networks only, not these backbones" in export(one, "md").decode()


def test_rows_that_cannot_be_told_from_the_best_are_marked(base):
    values = {"best": 0.90, "close": 0.89, "far": 0.70}
    records = [changed(base, backbone=n, task="a", value=v, n=1000, tasks=("a",)) for n, v in values.items()]
    (board,) = boards(records)
    assert {row.backbone: row.first for row in board.rows} == {"best": True, "close": True, "far": False}
    lines = {
        line.split("|")[2].strip(): line for line in markdown(board).splitlines() if line.startswith("|")
    }
    assert ["≈" in lines[name] for name in values] == [True, True, False]
    assert render(records).count('class="num mean tied"') == 2
    (clear,) = boards([records[0], records[2]])
    assert [row.first for row in clear.rows] == [True, False]
    assert "≈" not in markdown(clear)


def test_pairing_by_images_tells_more_apart(base, tmp_path):
    """Two backbones that differ on two images in a hundred, always in favour of one."""
    better = (RNG.random((1, 1000)) < 0.8).astype(float)
    worse = better.copy()
    worse[0, np.flatnonzero(better[0])[:20]] = 0
    records = saved(base, tmp_path, {("x", "a"): better, ("y", "a"): worse}, expected=1)
    (unpaired,), (paired,) = boards(records), boards(records, predictions=predictions_of([tmp_path], records))
    assert [row.first for row in unpaired.rows] == [True, True]
    assert [row.first for row in paired.rows] == [True, False]


def test_equal_counts_are_ties_whatever_their_floats(base):
    """Two thirds and a third of a task in another order of seeds: the floats differ in the last bit."""
    splits = {"x": (1, 2, 6), "y": (3, 3, 3), "z": (2, 3, 3)}
    records = [
        changed(base, backbone=name, task=task, seed=seed, value=hits / 10, n=10, tasks=("a", "b"), seeds=3)
        for name, split in splits.items() for task in ("a", "b") for seed, hits in enumerate(split)
    ]  # fmt: skip
    records = [
        r.model_copy(
            update={"metrics": {k: m.model_copy(update={"ci_low": 0.0}) for k, m in r.metrics.items()}}
        )
        for r in records
    ]
    (board,) = boards(records)
    assert {row.backbone: row.rank for row in board.rows} == {"x": 1, "y": 1, "z": 3}
    assert [row.cells[0].best for row in board.rows] == [True, True, False]


def test_columns_beside_published_values_have_their_decimals(base):
    records = [
        made(base, NAMES[0], "cifar100", seed, 0.9212 + 0.0004 * seed, tasks=("cifar100",), budget="full") for seed in range(3)
    ]  # fmt: skip
    (board,) = boards(records, ["vit2021-t2-"])
    assert board.columns[0].decimals == 2
    assert "| 92.16 ± 0.04 |" in markdown(board)
    assert boards(records[:1])[0].columns[0].decimals in (1, 2)


def test_images_that_are_not_counted_are_counted_nowhere(base, tmp_path):
    """As wrong answers they would make both backbones worse, and their difference smaller."""
    first, second = outcomes(0.5, 1, 300), outcomes(0.8, 1, 300)
    for table in (first, second):
        table[:, :100] = np.nan
    saved(base, tmp_path, {("x", "a"): first, ("y", "a"): second}, expected=1)
    (row,) = compare([tmp_path], "x", "y").cells
    assert (row.n_test, row.first, row.second) == (200, np.nanmean(first), np.nanmean(second))
    (rows,) = ranks([tmp_path]).values()
    assert rows["x"].mean.value == pytest.approx(np.nanmean(first))


def test_the_boards_metric_is_compared_and_ranked(base, tmp_path):
    first, second = outcomes(0.5), outcomes(0.8)
    records = saved(base, tmp_path, {("x", "a"): first, ("y", "a"): second}, metric="balanced")
    (row,) = compare([tmp_path], "x", "y").cells
    assert (row.metric, row.first, row.second) == (
        "balanced",
        pytest.approx(first.mean()),
        pytest.approx(second.mean()),
    )
    (board,) = boards(records)
    (ranked,) = ranks([tmp_path]).values()
    for shown in board.rows:
        assert ranked[shown.backbone].mean.value == pytest.approx(shown.mean)
        assert ranked[shown.backbone].rank.value == shown.rank
        assert (ranked[shown.backbone].rank.low, ranked[shown.backbone].rank.high) == (
            shown.rank_low,
            shown.rank_high,
        )


def test_what_lacks_seeds_is_shown_apart_and_ranked_nowhere(base, tmp_path):
    tables = {("x", "a"): outcomes(0.5), ("y", "a"): outcomes(0.8)[:2], ("z", "a"): outcomes(0.6)}
    records = saved(base, tmp_path, tables)
    found = compare([tmp_path], "x", "y")
    assert [(row.complete, row.p_holm, row.seeds) for row in found.cells] == [(False, None, (3, 2))]
    assert "0 complete cells" in found.family
    assert found.means == ()
    (rows,) = ranks([tmp_path]).values()
    assert (
        set(rows) == {"x", "z"} == {row.backbone for row in boards(records)[0].rows if row.rank is not None}
    )


def test_means_over_tasks_are_compared_where_both_have_all(base, tmp_path):
    tables = {
        (name, task): outcomes(level) for name, level in (("x", 0.5), ("y", 0.8)) for task in ("a", "b")
    }
    saved(base, tmp_path, tables)
    found = compare([tmp_path], "x", "y")
    (mean,) = found.means
    assert (mean.tasks, mean.scope) == (2, "backbones")
    assert mean.gap.value == pytest.approx(np.mean([row.gap.value for row in found.cells]))
    assert mean.gap.low > 0
    assert "2 complete cells" in found.family


def test_one_seed_each_is_said_to_be_about_these_networks(base, tmp_path):
    tables = {("x", "a"): outcomes(0.5, 1), ("y", "a"): outcomes(0.8, 1)}
    saved(base, tmp_path / "finetune", tables, expected=1)
    saved(base, tmp_path / "probe", tables, expected=1, protocol=component("knn", "knn"))
    scopes = [compare([tmp_path / name], "x", "y").cells[0].scope for name in ("finetune", "probe")]
    assert scopes == ["trained networks", "backbones"]


def test_predictions_of_very_many_records_are_not_read(base, tmp_path):
    records = saved(base, tmp_path, {("x", "a"): outcomes(0.5)})
    assert predictions_of([tmp_path], records) is not None
    assert predictions_of([tmp_path], records * MOST_RECORDS) is None
    assert predictions_of([tmp_path / "nowhere"], records) is None


def test_damaged_predictions_leave_the_board_as_it_is_without_them(base, tmp_path):
    records = saved(base, tmp_path, {("x", "a"): outcomes(0.5), ("y", "a"): outcomes(0.6)})
    RunDir(tmp_path).predictions_path(records[0].key).write_bytes(b"damaged")
    found = boards(records, predictions=predictions_of([tmp_path], records))
    assert found == boards(records)


def test_rows_with_gaps_are_ranked_on_what_all_rows_have(base):
    """One missing seed of one task costs that task, not the row."""
    records = [
        made(base, name, task, seed, level, tasks=("a", "b"))
        for name, level in (("x", 0.9), ("y", 0.8), ("z", 0.7)) for task in ("a", "b") for seed in range(3)
        if (name, task, seed) != ("x", "b", 2)
    ]  # fmt: skip
    (found,) = boards(records)
    assert {row.backbone: row.rank for row in found.rows} == {"y": 1, "z": 2, "x": None}
    assert [found.columns[i].label for i in found.common] == ["a"]
    assert {row.backbone: row.common.rank for row in found.rows} == {"x": 1, "y": 2, "z": 3}
    for row in found.rows:
        cell = row.cells[found.common[0]]
        assert (row.common.mean, row.common.interval.low) == (pytest.approx(cell.value), cell.ci_low)
        assert row.common.rank_low <= row.common.rank <= row.common.rank_high
    (whole,) = boards([record for record in records if record.job.backbone.label != "x"])
    assert whole.common == ()
    assert {row.common for row in whole.rows} == {None}


def test_the_pairs_of_a_board_are_those_of_compare(base, tmp_path):
    tables = {
        (name, task): outcomes(level)
        for name, level in (("x", 0.5), ("y", 0.8), ("z", 0.6))
        for task in ("a", "b")
    }
    records = saved(base, tmp_path, tables)
    (board,) = boards(records, predictions=predictions_of([tmp_path], records), in_pairs=True)
    assert {frozenset((pair.first, pair.second)) for pair in board.pairs} == {
        frozenset(pair) for pair in (("x", "y"), ("x", "z"), ("y", "z"))
    }
    for pair in board.pairs:
        found = compare([tmp_path], pair.first, pair.second)
        wanted = {row.task: row for row in found.cells}
        for column, estimate in zip(board.columns, pair.estimates, strict=True):
            row, interval = wanted[column.task], estimate.interval
            assert (interval.low, interval.high) == pytest.approx((row.gap.low, row.gap.high))
        by_holm = holm([estimate.p for estimate in pair.estimates])
        assert by_holm == pytest.approx([wanted[column.task].p_holm for column in board.columns])
    assert boards(records)[0].pairs == ()
    assert boards(records, in_pairs=True)[0].pairs == ()  # scripts take cells for independent
