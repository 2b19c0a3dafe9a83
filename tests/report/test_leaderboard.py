"""Means of a leaderboard: over tasks and over the groups of VTAB."""

import itertools

import numpy as np
import pytest

from tests.making.boards import NAMES, VTAB, board, made
from vitbench.report.build import boards


@pytest.fixture
def base(tiny_records):
    return tiny_records[0]


def test_a_second_metric_is_a_column_outside_all_means(base):
    records = [
        made(base, NAMES[0], "imagenet", seed, value, tasks=("imagenet",), budget="full")
        for seed, value in enumerate((0.90, 0.91, 0.92))
    ]
    records = [
        r.model_copy(update={"metrics": {**r.metrics, "real": r.metrics["top1"].model_copy(update={"value": 0.5})}})
        for r in records
    ]  # fmt: skip
    (found,) = boards(records)
    assert found.tasks == ("imagenet", "imagenet · real")
    assert found.rows[0].mean == pytest.approx(0.91)
    assert [cell.value for cell in found.rows[0].cells] == pytest.approx([0.91, 0.5])


def test_groups_have_means_of_their_own(base):
    (found,) = boards(board(base, NAMES[:1], tuple(reversed(VTAB))))
    assert [group for group, _ in found.heads] == ["natural", "specialized", "structured"]
    assert [width for _, width in found.heads] == [7, 4, 8]
    (row,) = found.rows
    by_group = {}
    for column, cell in zip(found.columns, row.cells, strict=True):
        by_group.setdefault(VTAB[column.label], []).append(cell.value)
    means = dict(found.group_means(row))
    assert means["structured"] == pytest.approx(np.mean(by_group["structured"]))
    assert means["group mean"] == pytest.approx(np.mean([np.mean(values) for values in by_group.values()]))
    assert row.mean == pytest.approx(np.mean(list(itertools.chain(*by_group.values()))))


def test_an_incomplete_group_has_no_mean(base):
    records = [r for r in board(base, NAMES[:1]) if (r.job.task.name, r.job.seed) != ("vtab/dtd", 1)]
    (found,) = boards(records)
    means = dict(found.group_means(found.rows[0]))
    assert means["natural"] is None
    assert means["group mean"] is None
    assert means["structured"] is not None
    assert (found.rows[0].mean, found.rows[0].done) == (None, 18)
