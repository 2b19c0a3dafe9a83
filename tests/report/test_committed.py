"""The pages in reports/ are up to date with their records."""

from pathlib import Path

import pytest

from vitbench.report.keys import newest
from vitbench.report.page import render
from vitbench.store.record_file import load

REPORTS = sorted(path.parent for path in (Path(__file__).parents[2] / "reports").glob("*/records"))


@pytest.mark.parametrize("folder", REPORTS, ids=lambda folder: folder.name)
def test_the_page_is_rebuilt_from_its_records(folder):
    assert render(newest(load(folder))) == (folder / "report.html").read_text(), (
        "run `vitbench report` on the folder and look at it"
    )


def test_quickstart_is_the_only_committed_report():
    assert [folder.name for folder in REPORTS] == ["quickstart"]


def test_the_committed_report_is_complete():
    records = load(REPORTS[0])
    assert {record.status for record in records} == {"ok"}
    assert {record.job.backbone.label for record in records} >= {
        "Raw pixels",
        "ViT-Ti/16",
        "BiT-R50x1",
        "EfficientNet-B0",
    }
    assert {record.job.budget for record in records} == {"1-shot", "5-shot", "10-shot", "full"}
