"""`vitbench run SUITE --dry-run` on a machine that has nothing: what it takes, before anything is installed or downloaded."""

import json
import os
import subprocess
import sys

import pytest

from tests.making.command import vitbench
from vitbench.data.tfds.dataset import DATA_SETS
from vitbench.data.tfds.status import asked_download_bytes, download_bytes

MANUAL = ("resisc45", "diabetic_retinopathy_detection/btgraham-300")


@pytest.fixture
def empty_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("VITBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def plan(*options):
    done = vitbench("run", "vtab", "--dry-run", *options)
    assert done.returncode == 0, done.stderr
    return done


def test_a_newcomer_sees_what_vtab_takes(empty_machine):
    done = plan()
    for beginning in ("forward ", "backward ", "memory ", "disk ", "time ", "data ", "by hand ", "next "):
        assert any(line.startswith(beginning) for line in done.stderr.splitlines()), beginning
    assert "16 data sets not ready" in done.stderr
    assert "vitbench data prepare vtab -j 2" in done.stderr
    assert "--skip-missing" in done.stderr
    by_hand = {
        line.split(":")[0].split()[-1] for line in done.stderr.splitlines() if line.startswith("by hand")
    }
    assert by_hand == set(MANUAL)
    assert len(done.stdout.splitlines()) == 3  # one line for each backbone


def test_the_numbers_are_in_json_too(empty_machine):
    found = json.loads(plan("--json", "--on", "h100", "--dtype", "bfloat16").stdout)["estimate"]
    assert found["device"] == "h100-sxm"
    assert {need["backbone"] for need in found["memory"]} == {"vit-b32-i21k", "vit-b16-i21k", "vit-l16-i21k"}
    assert all(need["at_once"] >= 64 for need in found["memory"])
    sizes = {need["name"]: need["download_bytes"] for need in found["downloads"]}
    assert len(sizes) == 16
    assert {need["name"] for need in found["downloads"] if need["steps"]} == set(MANUAL)
    assert sizes["sun397/tfds"] == download_bytes("sun397/tfds")


@pytest.mark.parametrize(
    ("alias", "hours"), [("vit-b16-i21k", 6.9), ("vit-b32-i21k", 1.6), ("vit-l16-i21k", 20.9)]
)
def test_hours_on_an_h100_are_the_arithmetics(empty_machine, alias, hours):
    """Predicted step by step, one seed of VTAB-1k in bfloat16, as suites/vtab.yaml has it."""
    options = ("--json", "--on", "h100", "--dtype", "bfloat16", "--backbone", alias, "--seeds", "0")
    found = json.loads(plan(*options).stdout)["estimate"]
    assert found["seconds"] / 3600 == pytest.approx(hours, rel=0.25)


def test_a_slower_card_takes_longer_and_float32_is_remarked_on(empty_machine):
    options = ("--json", "--backbone", "vit-b16-i21k", "--seeds", "0")
    by_card = {
        card: json.loads(plan(*options, "--on", card, "--dtype", "bfloat16").stdout)["estimate"]
        for card in ("h200", "h100", "a100", "rtx4090", "l4")
    }
    seconds = [found["seconds"] for found in by_card.values()]
    assert seconds == sorted(seconds)
    assert not by_card["h100"]["remark"]
    in_float32 = json.loads(plan(*options, "--on", "h100").stdout)["estimate"]
    assert 6 < in_float32["seconds"] / by_card["h100"]["seconds"] < 10
    assert "add --dtype bfloat16" in in_float32["remark"]
    refused = vitbench("run", "vtab", "--dry-run", "--on", "h10")
    assert refused.returncode == 2
    assert "h100" in refused.stderr


def test_neither_torch_nor_tfds_is_imported(empty_machine):
    """That is what makes it fast (tests/benchmarks/dry_run.py)."""
    code = (
        "import sys\nfrom vitbench.cli import main\ntry: main()\n"
        "finally: print('heavy:', {'torch', 'timm', 'tensorflow_datasets'} & set(sys.modules), file=sys.stderr)"
    )
    command = [sys.executable, "-c", code, "run", "vtab", "--dry-run", "--device", "cpu"]
    done = subprocess.run(command, env=dict(os.environ), capture_output=True, text=True, check=True)
    assert "heavy: set()" in done.stderr


def test_options_of_the_dry_run_are_refused_elsewhere(empty_machine):
    refused = vitbench("run", "quickstart", "--on", "h100")
    assert refused.returncode == 2
    assert "--on: for --dry-run only" in refused.stderr


def test_shipped_download_sizes_are_tfds_own():
    for name in DATA_SETS:
        assert download_bytes(name) == asked_download_bytes(name), name
