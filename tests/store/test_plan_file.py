"""The plan in the run directory."""

import json

import vitbench


def test_the_plan_is_in_the_run_directory(tiny, tmp_path):
    records = vitbench.run(tiny, tmp_path / "run")
    rows = json.loads((tmp_path / "run" / "plan.json").read_text())
    assert [row[0] for row in rows] == [record.key for record in records]
