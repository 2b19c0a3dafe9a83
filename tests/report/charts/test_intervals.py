"""Means with intervals: the points of VTAB groups and of seeds."""

import re

from vitbench.report.charts.families import Families
from vitbench.report.charts.intervals import GROUPS, SEEDS, group_points, interval_chart, seed_points
from vitbench.report.charts.style import svg


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


def test_published_rows_are_hollow(vtab_board):
    points = group_points(vtab_board)
    published = {row.backbone for row in vtab_board.rows if row.published}
    assert set(points[points["hollow"]]["backbone"]) == published
    drawn = svg(interval_chart(points))
    for name in points["backbone"].unique():
        (mark, *_) = re.findall(rf"<path([^>]*)><title>{re.escape(name)}: ", drawn)
        assert ("fill=" not in mark or 'fill="transparent"' in mark or 'fill="none"' in mark) == (
            name in published
        ), mark
