"""Means with intervals: the points of VTAB groups and of seeds."""

from vitbench.report.charts.families import Families
from vitbench.report.charts.intervals import GROUPS, SEEDS, group_points, interval_chart, seed_points


def test_groups_have_a_panel_each(vtab_board):
    assert set(group_points(vtab_board)["panel"]) == {
        "VTAB, 19 tasks",
        "Natural",
        "Specialized",
        "Structured",
    }


def test_seeds_and_intervals_are_kept_apart(vtab_board, vtab_records):
    points = seed_points(vtab_board)
    assert len(points) == 3 * 19
    for point in points.itertuples():
        own = [
            r
            for r in vtab_records
            if (r.job.backbone.label, r.job.task.label) == (point.backbone, point.panel)
        ]
        assert point.seeds == [r.metrics["top1"].value for r in sorted(own, key=lambda r: r.job.seed)]
        assert point.low < point.value < point.high


def test_without_points_there_is_no_chart(vtab_board):
    assert interval_chart(seed_points(vtab_board)[:0]) is None
    assert (
        len(GROUPS.draw([vtab_board], [], Families([])))
        == len(SEEDS.draw([vtab_board], [], Families([])))
        == 1
    )
