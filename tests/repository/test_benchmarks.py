"""The scripts of tests/benchmarks run."""

import json
import subprocess
import sys

import pytest

from tests.making.command import environment
from tests.making.paths import TESTS


@pytest.mark.slow
def test_the_script_for_a_gpu_runs(tmp_path):
    """Its figures mean nothing here; that it goes through from the check of correctness to the report does."""
    script = TESTS / "benchmarks" / "gpu_finetune.py"
    done = subprocess.run(
        [sys.executable, str(script), "--device", "cpu", "--small", "--out", str(tmp_path / "r.json")],
        env=environment(), capture_output=True, text=True, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["correctness"]["vit_tiny_patch16_224"]["pieces"] < 1e-3
    assert {row["compiled"] for row in report["rates"]} == {False, True}


@pytest.mark.slow
def test_the_model_of_the_pipeline_runs():
    """It says of each origin of images what bounds, and never more than the bare forward pass."""
    script = TESTS / "benchmarks" / "pipeline.py"
    done = subprocess.run(
        [sys.executable, str(script), "--card", "h200"], env=environment(), capture_output=True, text=True, timeout=500
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("from ")]
    assert [line.partition(":")[0] for line in lines] == [
        "from JPEG",
        "from JPEG, writing the cache",
        "from cache",
    ]
    for line in lines:
        assert 0 < float(line.partition(": ")[2].split()[0]) <= 1
        assert "bound by" in line
