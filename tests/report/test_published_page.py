"""The page of published results alone: up to date with the shipped rows, and equal to the tables of the ViT paper."""

import re
from pathlib import Path

import pytest

from vitbench.published import published
from vitbench.report.published_page import published_tables, render_published

PAGE = Path(__file__).parents[2] / "reports" / "paper" / "report.html"
ROWS = [row for row in published() if row.id.startswith("vit2021-")]


def test_the_page_is_rebuilt_from_the_published_rows():
    assert render_published(ROWS, ROWS[0].source.paper) == PAGE.read_text(), (
        "run `vitbench report --published vit2021- -o reports/paper/report.html` and look at it"
    )


@pytest.mark.parametrize(
    ("table", "model", "data", "column", "printed"),
    # As printed in arXiv 2010.11929v2 (read in its full text).
    [
        ("Table 2", "ViT-H/14", "JFT-300M", "imagenet", "88.55 ± 0.04"),
        ("Table 2", "ViT-L/16", "ImageNet-21k", "cifar100", "93.25 ± 0.05"),
        ("Table 2", "BiT-L R152x4", "JFT-300M", "imagenet", "87.54 ± 0.02"),
        (
            "Table 2",
            "Noisy Student EfficientNet-L2",
            "ImageNet-1k + JFT-300M (unlabelled)",
            "imagenet_real",
            "90.55",
        ),
        ("Table 5", "ViT-B/16", "ImageNet-1k", "imagenet", "77.91"),
        ("Table 5", "ViT-H/14", "JFT-300M", "imagenet", "88.04"),
        ("Table 6", "ViT-B/32", "JFT-300M", "imagenet", "80.73"),
        ("Table 6", "R50x1+ViT-L/16", "JFT-300M", "imagenet", "87.12"),
        ("Table 9", "ViT-H/14", "JFT-300M", "caltech101", "95.3"),
        ("Table 9", "ViT-L/16", "ImageNet-21k", "clevr_count", "70.3"),
    ],
)
def test_values_are_as_printed(table, model, data, column, printed):
    tables = [found for found in published_tables(ROWS) if table in found.title]
    texts = {
        cells[found.columns.index(column)].text
        for found in tables
        for row, cells in found.rows
        if (row.model, row.pretrain_data) == (model, data) and column in found.columns
    }
    assert printed in texts


def test_only_the_best_is_marked_and_vtab_has_its_groups():
    for table in published_tables(ROWS):
        for i, _ in enumerate(table.columns):
            cells = [cells[i] for _, cells in table.rows if cells[i]]
            assert {c.value.value for c in cells if c.best} == {max(c.value.value for c in cells)}
    (vtab,) = (table for table in published_tables(ROWS) if table.group_of)
    groups = [vtab.group_of[name] for name in vtab.columns if name in vtab.group_of]
    assert (groups.count("Natural"), groups.count("Specialized"), groups.count("Structured")) == (7, 4, 8)


def test_it_is_self_contained_and_says_that_nothing_was_measured():
    page = PAGE.read_text()
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert "http" not in page
    assert "Nothing on this page was measured" in page
    assert len(page) < 200_000
