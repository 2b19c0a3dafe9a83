"""Text from records cannot become markup of the page."""

import pytest
from hypothesis import given, settings

from tests.making.bad_input import FAST, NASTY
from vitbench.report.page import render


@pytest.mark.slow
@settings(FAST, max_examples=30)
@given(NASTY.filter(bool), NASTY)
def test_no_label_or_note_becomes_part_of_the_page(tiny_records, label, note):
    record = tiny_records[0]
    job = record.job.model_copy(
        update={"backbone": record.job.backbone.model_copy(update={"label": label[:100]})}
    )
    page = render([record.model_copy(update={"job": job, "notes": (note,)})])
    assert "<script>alert" not in page
    assert page.count("<script") == render(tiny_records[:1]).count("<script")
