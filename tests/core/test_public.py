"""The public names of the package, and Python's `run` taking what the command line takes."""

import subprocess
import sys

import pytest

import vitbench
from vitbench.core.registry import register_task


def test_every_public_name_resolves():
    assert all(getattr(vitbench, name) is not None for name in vitbench.__all__)
    assert vitbench.register_task is register_task
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = vitbench.nonsense


def test_importing_the_package_is_light():
    code = "import sys, vitbench; print(sorted({'torch', 'numpy', 'pandas', 'pydantic'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_run_takes_what_to_run_and_how(tiny, tmp_path):
    records = vitbench.run(tiny, tmp_path / "run", protocols=["knn"], device="cpu", shard=(1, 1), limit=50)
    assert {record.job.protocol.name for record in records} == {"knn"}
    assert {record.job.limit for record in records} == {50}


def test_an_unknown_option_is_refused_with_the_nearest_one(tiny, tmp_path):
    with pytest.raises(vitbench.UsageError, match=r"no option 'worker'\n.*did you mean: workers"):
        vitbench.run(tiny, tmp_path / "run", worker=2)
    assert not (tmp_path / "run").exists()
