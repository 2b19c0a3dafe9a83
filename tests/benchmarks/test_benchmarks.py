"""The scripts of tests/benchmarks run, and those for a GPU cannot flatter."""

import json
import os
import subprocess
import sys
import threading

import pytest
import torch

from tests.benchmarks import gpu_finetune, gpu_frozen, on_gpu
from tests.making.command import environment
from tests.making.paths import TESTS
from vitbench.compute.batch_size import BatchSize
from vitbench.engine.components import load_all
from vitbench.engine.forward_pass import ForwardPass
from vitbench.protocols.finetune.trainer import Trainer


@pytest.fixture
def graphs(monkeypatch):
    """The inputs of graphs that have been compiled, by a backend that runs them as they are."""
    found = []

    def backend(graph, inputs):
        found.append(inputs)
        return graph.forward

    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda fn, **how: compile_(fn, backend=backend, **how))
    monkeypatch.setenv("VITBENCH_COMPILE", "off")  # which the scripts change
    torch._dynamo.reset()
    yield found
    torch._dynamo.reset()


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


@pytest.mark.slow
def test_the_script_for_frozen_features_runs(tmp_path):
    script = TESTS / "benchmarks" / "gpu_frozen.py"
    done = subprocess.run(
        [sys.executable, str(script), "--device", "cpu", "--small", "--out", str(tmp_path / "r.json")],
        env=environment(), capture_output=True, text=True, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "r.json").read_text())
    assert all(report[part] for part in ("correctness", "pipeline", "solvers", "extraction"))
    assert {"from_jpeg_of_bare", "from_cache_of_bare"} < report["pipeline"][0].keys()


@pytest.mark.slow
def test_every_row_times_ten_steps_of_a_graph_of_static_shapes(graphs, monkeypatch):
    load_all()
    steps, plain = [], Trainer.step
    monkeypatch.setattr(
        Trainer, "step", lambda self, *batch: steps.append(len(batch[0])) or plain(self, *batch)
    )
    for count in (2, 3):  # a second shape of the same network would be compiled as a dynamic one
        row = gpu_finetune.rate("test_vit", 32, "cpu", count, compiled=True)
        assert any(note.startswith("compiled") for note in row["notes"])
        assert steps == [count] * (2 + gpu_finetune.TIMED)
        steps.clear()
    assert gpu_finetune.TIMED >= 10
    assert len(graphs) == 2
    assert all(
        isinstance(each, torch.Tensor) for inputs in graphs for each in inputs
    )  # else a size is a variable


@pytest.mark.slow
def test_a_compiled_forward_pass_is_compared_and_timed(graphs):
    load_all()
    backbone = on_gpu.backbone_of("test_vit", 32, "cpu")
    ready = torch.randn(4, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    size = BatchSize("cpu", 32, {}, TESTS, size=4)
    row = gpu_frozen.compiled(ForwardPass(backbone, "cpu", "float32"), size, ready, 1.0)
    assert row["compiled"].startswith("compiled (torch ")
    assert row["compiled_of_plain_time"] > 0
    assert len(graphs) == 1


def test_a_rate_above_the_peak_is_refused():
    on_gpu.refuse_impossible({"model": "m", "mfu": 0.99})
    on_gpu.refuse_impossible({"model": "m", "mfu": None})
    with pytest.raises(SystemExit, match=r"MFU 3\.98: no device computes faster than its peak"):
        on_gpu.refuse_impossible({"model": "m", "mfu": 3.98})
    row = {"model": "m", "tflops": 990.0}
    with pytest.raises(SystemExit, match=r"MFU 1\.00"):
        gpu_finetune.shown(row, on_gpu.peak_of("NVIDIA H200"))
    assert on_gpu.peak_of("NVIDIA A100-SXM4-80GB") == 312e12


@pytest.mark.parametrize(
    ("on_device", "holds"),
    [([4.6, 3.0], True), ([4.6, 4.6], False), ([4.6, 3.5], False)],
    ids=["as on the CPU", "no training", "other losses"],
)
def test_losses_must_be_the_cpus_and_the_cpus_must_fall(on_device, holds, monkeypatch):
    def losses(_model, device, *_rest, **_how):
        return [4.6, 3.0] if device == "cpu" else on_device

    monkeypatch.setattr(gpu_finetune, "losses", losses)
    assert gpu_finetune.is_correct({"correctness": {}}, "cuda", small=False) == holds
    monkeypatch.setattr(gpu_finetune, "losses", lambda *_, **__: [4.6, 4.6])  # alike, and nothing is learned
    assert not gpu_finetune.is_correct({"correctness": {}}, "cuda", small=False)


@pytest.mark.parametrize(("has_figures", "code"), [(True, 0), (False, 1)])
def test_the_budget_ends_whatever_runs(has_figures, code, monkeypatch):
    ended, over = [], threading.Event()
    monkeypatch.setattr(os, "_exit", lambda found: (ended.append(found), over.set()))
    on_gpu.end_after(0.01, lambda: has_figures)
    assert over.wait(30)
    assert ended == [code]
    assert max(gpu_finetune.BUDGET_S, gpu_frozen.BUDGET_S) < 9 * 60


def test_make_gpu_runs_all_of_it():
    text = (TESTS.parent / "Makefile").read_text().partition("\ngpu:")[2].partition("\n\n")[0]
    assert "tests/gpu" in text
    for script in ("gpu_frozen", "gpu_finetune"):
        assert f"tests/benchmarks/{script}.py --out reports/gpu/" in text
