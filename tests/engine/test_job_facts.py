"""Remarks on a score."""

import pytest

from vitbench.core.record import Metric, Trial
from vitbench.engine.job_facts import score_remarks


@pytest.mark.parametrize(
    ("split", "chosen", "validation", "test", "doubted"),
    [
        ("val", True, 1.0, 0.499, True),
        ("val", True, 1.0, 0.5, False),
        ("val", True, 0.333, 0.083, True),
        ("val", False, 1.0, 0.1, False),
        ("train", True, 1.0, 0.1, False),
        ("val", True, None, 0.1, False),
    ],
)
def test_a_score_far_below_validation_is_remarked_on(split, chosen, validation, test, doubted):
    trial = Trial(options={"c": 1.0}, split=split, metric="top1", value=validation, chosen=chosen)
    remarks = list(score_remarks([trial], Metric(value=test, n=1000, ci_low=0.0, ci_high=1.0)))
    assert bool(remarks) == doubted
