import math
import statistics

import pytest

from tests.making.boards import changed
from vitbench.report.build import boards, failures
from vitbench.report.keys import cells, newest, setting_key
from vitbench.report.tidy import COLUMNS, tidy


@pytest.fixture
def base(tiny_records):
    return tiny_records[0]


TASKS = ("a", "b")


def row(board, name):
    return next(row for row in board.rows if row.backbone == name)


def test_the_mean_is_over_tasks_and_seeds_are_kept_apart(base):
    values = {("a", 0): 0.5, ("a", 1): 0.6, ("b", 0): 0.9, ("b", 1): 0.9}
    records = [
        changed(base, backbone="x", task=t, seed=s, value=v, tasks=TASKS, seeds=2)
        for (t, s), v in values.items()
    ]
    (board,) = boards(records)
    found = row(board, "x")
    assert found.mean == pytest.approx(statistics.fmean([0.55, 0.9]))
    assert found.rank == 1
    cell = found.cells[0]
    assert cell.spread == pytest.approx(statistics.stdev([0.5, 0.6]))
    assert (cell.image_low, cell.image_high) == pytest.approx((0.45, 0.65))
    assert cell.ci_low < 0.45 < 0.65 < cell.ci_high  # two seeds that are ten points apart
    assert not cell.one_network
    assert (cell.by_seed, cell.n_test) == ((0.5, 0.6), 100)


def test_an_incomplete_row_is_shown_and_not_ranked_nor_averaged(base):
    records = [
        changed(base, backbone="whole", task="a", value=0.1, tasks=TASKS),
        changed(base, backbone="whole", task="b", value=0.1, tasks=TASKS),
        changed(base, backbone="half", task="a", value=0.99, tasks=TASKS),
        changed(base, backbone="broken", task="a", value=0.99, tasks=TASKS),
        changed(base, backbone="broken", task="b", status="failed", tasks=TASKS),
    ]
    (board,) = boards(records)
    assert (board.rows[0].backbone, board.rows[0].rank) == ("whole", 1)
    for name, done in (("half", 1), ("broken", 1)):
        assert (row(board, name).rank, row(board, name).mean, row(board, name).done) == (None, None, done)
    assert row(board, "broken").cells[1].failed == 1
    assert [cell.best for cell in row(board, "whole").cells] == [False, True]
    assert [f.message for f in failures(records)] == ["boom"]


def test_a_row_with_fewer_seeds_than_the_others_is_not_ranked(base):
    """Even if its record comes from a narrowed run with fewer seeds."""
    records = [
        changed(base, backbone="x", task="a", seed=s, value=0.5, tasks=("a",), seeds=3) for s in range(3)
    ]
    (board,) = boards([*records, changed(base, backbone="y", task="a", value=0.9, tasks=("a",), seeds=1)])
    assert [(r.backbone, r.rank) for r in board.rows] == [("x", 1), ("y", None)]
    assert (row(board, "y").cells[0].seeds, row(board, "y").cells[0].seeds_expected) == (1, 3)


def test_an_old_version_of_a_cell_leaves_the_board(base):
    old = changed(base, backbone="x", task="a", value=0.5, tasks=("a",))
    task = old.job.task.model_copy(update={"contents": {"path": "new"}})
    job = old.job.model_copy(update={"task": task})
    new = old.model_copy(update={"job": job, "key": job.key, "created": "2999-01-01T00:00:00+00:00"})
    assert newest([new, old]) == [new]
    assert newest([new, old], current=[old]) == [old]  # what the suite asks for now
    (board,) = boards(newest([old, new]))
    assert (board.tasks, board.rows[0].rank) == (("a",), 1)


def test_a_task_with_another_main_metric_is_shown(base):
    record = changed(base, backbone="x", task="a", value=0.7, tasks=("a",))
    record = record.model_copy(update={"metrics": {"balanced": record.metrics["top1"]}})
    assert boards([record])[0].rows[0].mean == 0.7


def test_a_task_that_no_backbone_has_run_still_counts(base):
    (board,) = boards([changed(base, backbone="x", task="a", value=0.5, tasks=("a", "b", "c"))])
    assert board.tasks == ("a", "b", "c")
    assert row(board, "x").mean is None


def test_a_task_whose_jobs_have_all_failed_still_counts(base):
    records = [
        changed(base, backbone="x", task="a", value=0.5, tasks=("a", "b")),
        changed(base, backbone="x", task="b", status="failed", tasks=("a", "b")),
    ]
    (board,) = boards(records)
    assert board.tasks == ("a", "b")
    assert (row(board, "x").mean, row(board, "x").cells[1].failed) == (None, 1)


def test_a_seed_that_failed_before_its_data_were_opened_belongs_to_its_cell(base):
    records = [changed(base, backbone="x", task="a", seed=s, value=0.5, tasks=("a",)) for s in (1, 0)]
    failed = changed(base, backbone="x", task="a", seed=2, status="failed", tasks=("a",)).model_copy(
        update={"data": None}
    )
    ((key, own),) = cells([*records, failed]).items()
    assert [record.job.seed for record in own] == [0, 1, 2]
    assert key.setting == setting_key(base.job)
    (board,) = boards([*records, failed])
    assert (board.tasks, row(board, "x").cells[0].failed) == (("a",), 1)


def test_equal_means_share_a_rank(base):
    records = [
        changed(base, backbone=n, task="a", value=v, tasks=("a",))
        for n, v in (("x", 0.5), ("y", 0.5), ("z", 0.4))
    ]
    (board,) = boards(records)
    assert [r.rank for r in board.rows] == [1, 1, 3]


def test_results_of_different_measurements_never_share_a_board(base):
    records = [
        changed(base, backbone="x", task="a", value=0.5, tasks=("a",)),
        changed(base, backbone="x", task="a", value=0.9, tasks=("a",), limit=10),
        changed(base, backbone="x", task="a", value=0.7, tasks=("a",), budget="full"),
    ]
    other_version = changed(base, backbone="x", task="a", value=0.8, tasks=("a",))
    job = other_version.job.model_copy(
        update={"protocol": other_version.job.protocol.model_copy(update={"version": "2"})}
    )
    records.append(other_version.model_copy(update={"job": job, "key": job.key}))
    found = boards(records)
    assert len(found) == 4
    assert len({board.label for board in found}) == 4
    assert any("limited to 10" in board.label for board in found)


def test_another_version_of_a_task_is_another_column(base):
    first = changed(base, backbone="x", task="a", value=0.5, tasks=("a",))
    task = first.job.task.model_copy(update={"version": "2"})
    job = first.job.model_copy(update={"task": task})
    (board,) = boards([first, first.model_copy(update={"job": job, "key": job.key})])
    assert len([task for task in board.tasks if task.startswith("a #")]) == 2


def test_the_tidy_table_has_one_row_a_score_and_keeps_failures(base, tiny_records):
    failed = changed(base, backbone="x", status="failed")
    table = tidy([*tiny_records, failed])
    wanted = (
        "suite, backbone, family, pretrain_data, task, group, protocol, budget, seed, metric, value, ci_low, ci_high, "
        "n_test, status, conformant, pretrain_tpu_v3_core_days, transfer_gpu_seconds, flops_per_image, key"
    )
    assert set(wanted.split(", ")) <= set(COLUMNS) == set(table.columns)
    assert len(table) == 4 * 5 + 1
    assert table["value"][table["metric"] != "nll"].dropna().between(0, 1).all()
    last = table.iloc[-1]
    assert (last["status"], last["error"], last["conformant"]) == ("failed", "boom", False)
    top1 = table[(table["metric"] == "top1") | table["metric"].isna()]
    assert top1["value"].isna().tolist() == [False] * 4 + [True]
    absent = table[table["value"].isna() & table["metric"].notna()]
    assert set(absent["metric"]) == {"nll", "ece"}
    assert absent["metric_note"].str.len().min() > 0
    assert table["ci_low"].notna().tolist() == table["metric"].isin(["top1", "top5"]).fillna(False).tolist()
    assert math.isclose(table["value"][0], tiny_records[0].metrics["top1"].value)
