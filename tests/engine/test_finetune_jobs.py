"""Fine-tuning as whole jobs: selection, interruption, several processes, and that it learns."""

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import psutil
import pytest

import vitbench
from tests.making.distributed_run import CUT_AFTER, RECIPE, Small, batches, squares
from tests.making.paths import DATA, TESTS
from vitbench.engine.run import Overrides, RunOptions, run_suite
from vitbench.protocols.finetune import train, trainer
from vitbench.protocols.finetune.checkpoint import Checkpoints
from vitbench.protocols.recipes import Recipe
from vitbench.store.record_file import load

PLUGIN = """
import torch
from vitbench.api import InputSpec
from vitbench.core.registry import register_backbone


class Small(torch.nn.Module):
    input, feature_dim = InputSpec(16, (0.5,) * 3, (0.5,) * 3), 12

    def __init__(self):
        super().__init__()
        self.body = torch.nn.Sequential(
            torch.nn.Conv2d(3, 16, 3, 2, 1), torch.nn.GELU(), torch.nn.Conv2d(16, 12, 3, 2, 1), torch.nn.GELU(),
            torch.nn.Dropout(0.05), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
        )

    def features(self, images):
        return self.body(images)


@register_backbone("small")
def small():
    return Small()
"""
SUITE = """
name: tuned
preprocess: squash
budgets: [full]
backbones: [small]
tasks: [digits]
protocols:
  - {{name: finetune, recipe: own, steps: {steps}, warmup_steps: 2, base_lr: {rates}, batch_size: 32, clip_norm: {clip}}}
"""
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture
def plugin(tmp_path):
    """A network small enough for hundreds of steps, with dropout."""
    (tmp_path / "small.py").write_text(PLUGIN)
    return str(tmp_path / "small.py")


def suite(suite_file, **how):
    return suite_file(SUITE.format(**{"steps": 12, "rates": [0.1], "clip": "none", **how}))


def test_validation_chooses_and_all_labels_are_learned_from(suite_file, plugin, tmp_path):
    (record,) = vitbench.run(
        suite(suite_file, rates=[1e-5, 0.3, 1e30], steps=60), tmp_path / "run", limit=400, plugins=[plugin]
    )
    assert record.failure is None
    *tried, last = record.trials
    assert [trial.options["base_lr"] for trial in tried] == [1e-5, 0.3, 1e30]
    assert [trial.split for trial in tried] == ["val"] * 3
    assert tried[1].value > tried[0].value
    assert [trial.chosen for trial in tried] == [False, True, False]
    assert tried[2].value is None
    assert "not finite" in tried[2].note
    assert last.options["base_lr"] == 0.3
    assert last.chosen
    assert all(len(trial.curve["loss"]) == len(trial.curve["step"]) for trial in record.trials)
    assert last.curve["step"][-1] == 60
    # Trials see train, the last run train and validation.
    assert record.cost.images_backward == 2 * 60 * 32 + 20 * 32 + 60 * 32
    assert not (tmp_path / "run" / "checkpoints").exists() or not list(
        (tmp_path / "run" / "checkpoints").iterdir()
    )


def test_every_field_of_the_recipe_is_in_the_record(suite_file, plugin, tmp_path):
    (record,) = vitbench.run(suite(suite_file, steps=2), tmp_path / "run", limit=40, plugins=[plugin])
    assert set(record.trials[0].options) == set(Recipe.__dataclass_fields__)


def test_at_the_size_of_the_recipe_or_the_next_that_patches_fill(suite_file, tmp_path):
    """Of 36 px with patches of 8, 40 px are made, as 518 of the paper's 512 with patches of 14."""
    backbone = '{name: "timm:vit_tiny_patch16_224", pretrained: false, size_px: 32, patch_px: 8}'
    text = SUITE.format(steps=2, rates=[0.1], clip="none").replace("[small]", f"[{backbone}]")
    path = suite_file(text.replace("batch_size: 32", "batch_size: 32, size_px: 36"))
    (record,) = vitbench.run(path, tmp_path / "run", limit=40)
    assert record.failure is None
    assert record.backbone.size_px == 40
    tokens, width = 25 + 1, 192
    block = (
        24 * tokens * width**2 + 4 * tokens**2 * width
    )  # four and eight products with weights, two of tokens
    assert record.cost.flops_per_image == 12 * block + 25 * 2 * (3 * 8 * 8) * width


def test_where_every_rate_diverges_the_job_says_so(suite_file, plugin, tmp_path):
    (record,) = vitbench.run(
        suite(suite_file, rates=[1e29, 1e30]), tmp_path / "run", limit=60, plugins=[plugin]
    )
    assert "every run diverged" in record.failure.message


def start(path, plugin, out):
    command = [sys.executable, "-m", "vitbench", "run", str(path), "--out", str(out), "--plugin", plugin]
    return subprocess.Popen(
        command,
        env={**ENVIRONMENT, "VITBENCH_CHECKPOINT_S": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def outcome(out):
    """A record without when, where and how fast."""
    (record,) = load(out)
    counted = record.cost.model_copy(update={"seconds": {}, "peak_memory_bytes": 0})
    return record.model_copy(update={"cost": counted, "created": "", "env": None})


@pytest.mark.parametrize(
    ("number", "run"),
    [
        pytest.param(signal.SIGKILL, "trial-0", marks=pytest.mark.slow),
        (signal.SIGKILL, "trial-1"),
        pytest.param(signal.SIGTERM, "trial-1", marks=pytest.mark.slow),
        pytest.param(signal.SIGKILL, "final", marks=pytest.mark.slow),
    ],
)
def test_cut_off_in_any_run_it_goes_on_and_ends_with_the_same_record(
    suite_file, plugin, tmp_path, number, run
):
    path = suite(suite_file, steps=60, rates=[0.03, 0.1])
    cut = start(path, plugin, tmp_path / "cut")
    states = tmp_path / "cut" / "checkpoints"
    seen = set()
    while cut.poll() is None and len(seen) < 5:  # some steps into the run
        seen |= {p.stat().st_mtime_ns for p in states.rglob(f"{run}-*.pt") if p.exists()}
        time.sleep(0.005)
    cut.send_signal(number)
    cut.communicate(timeout=60)
    assert cut.returncode == {signal.SIGKILL: -9, signal.SIGTERM: 130}[number]
    assert not list((tmp_path / "cut" / "records").glob("*.json"))
    again = start(path, plugin, tmp_path / "cut")
    again.communicate(timeout=300)
    assert again.returncode == 0
    vitbench.run(path, tmp_path / "whole", plugins=[plugin])
    assert outcome(tmp_path / "cut") == outcome(tmp_path / "whole")
    assert not list(states.rglob("*.pt"))


def test_a_job_that_fails_afterwards_keeps_what_it_has_trained(suite_file, plugin, tmp_path, monkeypatch):
    """A retry goes on from its state: here from the last step."""
    path = suite(suite_file, steps=30)
    monkeypatch.setattr("vitbench.engine.job._Attempt._predict", lambda *_: 1 / 0)
    (failed,) = vitbench.run(path, tmp_path / "run", plugins=[plugin], limit=60)
    assert failed.failure.kind == "ZeroDivisionError"
    monkeypatch.undo()
    steps = []
    original = trainer.Trainer.step
    monkeypatch.setattr(trainer.Trainer, "step", lambda *a: (steps.append(1), original(*a)))
    overrides = Overrides(plugins=[plugin], limit=60)
    again = run_suite(str(path), tmp_path / "run", overrides, RunOptions(retry_failed=True))
    assert again.failed == 0
    assert steps == []
    assert not list((tmp_path / "run" / "checkpoints").rglob("*.pt"))


def test_few_examples_make_whole_batches(suite_file, plugin, tmp_path):
    """The rate is the recipe's for its batch: 40 examples are gone through again, each time with a crop and flip of its own."""
    (record,) = vitbench.run(suite(suite_file, steps=4), tmp_path / "run", limit=20, plugins=[plugin])
    assert record.data.n_train + record.data.n_val == 40
    text = SUITE.format(steps=4, rates=[0.1], clip="none").replace("batch_size: 32", "batch_size: 96")
    (record,) = vitbench.run(suite_file(text), tmp_path / "more", limit=20, plugins=[plugin])
    assert record.failure is None
    assert record.cost.images_backward == 4 * 96


def test_it_learns_more_than_a_probe_of_what_it_started_from(suite_file, plugin, tmp_path):
    """On real digits: a small network's features as it came, probed, and the same network fine-tuned."""
    text = SUITE.format(steps=600, rates=[0.3], clip=1.0) + "  - ridge_probe\n"
    records = vitbench.run(suite_file(text), tmp_path / "run", plugins=[plugin])
    scores = {record.job.protocol.name: record.metrics["top1"] for record in records}
    assert scores["finetune"].value > scores["ridge_probe"].value + 0.1
    assert scores["finetune"].ci_low > scores["ridge_probe"].ci_high


CIFAR = """
name: cifar
preprocess: squash
backbones: [normed]
tasks: [{{name: cifar10 images, source: folder, path: "{folder}"}}]
protocols:
  - {{name: finetune, recipe: own, steps: 300, warmup_steps: 20, base_lr: 0.1, batch_size: 64, flip: true}}
  - ridge_probe
"""
NORMED = """
import torch
from torch import nn
from vitbench.api import InputSpec
from vitbench.core.registry import register_backbone


@register_backbone("normed")
class Normed(nn.Module):
    "Three convolutions with GroupNorm."
    input, feature_dim = InputSpec(32, (0.5,) * 3, (0.25,) * 3), 64

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            layers = []
            for before, after in ((3, 32), (32, 64), (64, 64)):
                layers += [nn.Conv2d(before, after, 3, 2, 1), nn.GroupNorm(8, after), nn.GELU()]
            self.body = nn.Sequential(*layers)

    def features(self, images):
        return self.body(images).mean((2, 3))
"""


@pytest.mark.slow
def test_it_learns_on_real_images_of_things(suite_file, tmp_path):
    """2,400 images of CIFAR-10: a probe of the untrained network reads 28.5, the network fine-tuned 41.0."""
    with tarfile.open(DATA / "cifar10_images.tar.gz") as images:
        images.extractall(tmp_path / "images", filter="data")
    (tmp_path / "normed.py").write_text(NORMED)
    path = suite_file(CIFAR.format(folder=tmp_path / "images"))
    records = vitbench.run(path, tmp_path / "run", plugins=[str(tmp_path / "normed.py")])
    scores = {record.job.protocol.name: record.metrics["top1"] for record in records}
    assert scores["finetune"].value > scores["ridge_probe"].value + 0.06
    assert scores["finetune"].ci_low > scores["ridge_probe"].ci_high


def together(out, *how):
    """Two processes that train as one: what they print, and their exit code."""
    script = TESTS / "making" / "distributed_run.py"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*command, str(script), str(out), *how], env={**ENVIRONMENT, "VITBENCH_CHECKPOINT_S": "1000"},
        capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert bool(done.returncode) == bool({"cut", "alone"} & set(how)), done.stderr
    return done


def alone(place=None):
    backbone = Small()
    log = train(backbone, lambda first: batches()[first:], 4, RECIPE, place=place)
    return log.losses, squares(backbone, log.head)


def is_as_alone(losses, weights):
    expected = alone()
    return losses == pytest.approx(expected[0], abs=1e-5) and weights == pytest.approx(expected[1], rel=1e-5)


def test_two_processes_give_the_losses_and_weights_of_one(tmp_path):
    """One of them runs out of memory, and goes on in pieces of one."""
    together(tmp_path / "out.json")
    assert is_as_alone(*json.loads((tmp_path / "out.json").read_text()))


def test_spread_over_two_processes_and_cut_off_it_goes_on_there_or_in_one(tmp_path):
    """FSDP2, as for a model that one GPU cannot train."""
    together(tmp_path / "out.json", "cut")
    (state,) = (tmp_path / "checkpoints").glob("*.pt")
    kept = state.read_bytes()
    place = Checkpoints(tmp_path / "checkpoints").place("run", RECIPE.fields())
    assert place.read()["steps_done"] == CUT_AFTER + 1
    assert is_as_alone(*alone(place))
    state.write_bytes(kept)
    together(tmp_path / "out.json", "sharded")
    assert is_as_alone(*json.loads((tmp_path / "out.json").read_text()))


@pytest.mark.slow
def test_a_process_that_fails_alone_ends_the_others(tmp_path):
    """They would wait for it for half an hour."""
    said = together(tmp_path / "out.json", "alone").stderr
    assert "one process of several failed alone: OSError: its own disk" in said


def test_torchrun_runs_a_suite_once_and_its_scores_are_those_of_one_process(suite_file, plugin, tmp_path):
    # Each process draws dropout's masks for its own share.
    Path(plugin).write_text(PLUGIN.replace("torch.nn.Dropout(0.05), ", ""))
    path = suite(suite_file, steps=30, rates=[0.03, 0.1])
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        "-m",
        "vitbench",
    ]
    done = subprocess.run(
        [*command, "run", str(path), "--out", str(tmp_path / "two"), "--plugin", plugin, "--device", "cpu", "--limit", "300"],
        env=ENVIRONMENT, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("1 jobs, 1 new") == 1
    (one,) = vitbench.run(path, tmp_path / "one", plugins=[plugin], limit=300)
    (two,) = load(tmp_path / "two")
    for a, b in zip(one.trials, two.trials, strict=True):
        assert a.curve["loss"] == pytest.approx(b.curve["loss"], abs=1e-4)
        assert a.chosen == b.chosen
    assert two.metrics["top1"].value == pytest.approx(one.metrics["top1"].value, abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_processes_that_are_stopped_one_after_the_other_keep_their_state(
    suite_file, plugin, tmp_path, number
):
    """The first to be asked takes the others along, at the same step; no job becomes a failure."""
    path = suite(suite_file, steps=20_000, rates=[0.03])
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        "-m",
        "vitbench",
    ]
    out = tmp_path / "two"
    run = subprocess.Popen(
        [*command, "run", str(path), "--out", str(out), "--plugin", plugin, "--device", "cpu", "--limit", "60"],
        env={**ENVIRONMENT, "VITBENCH_CHECKPOINT_S": "0"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    until = time.monotonic() + 120
    while not list((out / "checkpoints").rglob("*.pt")) and time.monotonic() < until:
        time.sleep(0.05)
    mine = psutil.Process(run.pid).children(recursive=True)
    second = next(p for p in mine if p.environ().get("RANK") == "1")
    second.send_signal(number)
    run.communicate(timeout=120)
    assert run.returncode != 0
    assert list((out / "checkpoints").rglob("*.pt"))
    assert not list((out / "records").glob("*.json"))


def test_a_job_that_asks_for_several_processes_gets_them(suite_file, plugin, tmp_path):
    text = SUITE.format(steps=12, rates=[0.1], clip="none").replace(
        "recipe: own", "recipe: own, replicas: {}"
    )
    one, two = (
        vitbench.run(suite_file(text.replace("{}", str(n))), tmp_path / str(n), limit=120, plugins=[plugin])[
            0
        ]
        for n in (1, 2)
    )
    assert two.failure is None
    assert two.metrics["top1"].value == pytest.approx(one.metrics["top1"].value, abs=0.1)
    assert one.trials[-1].curve["loss"][0] == pytest.approx(two.trials[-1].curve["loss"][0], abs=1e-5)
    log = (tmp_path / "2" / "logs" / f"{two.key}.log").read_text()
    assert log.count(" on cpu (key ") == 1  # the first of the two tells


@pytest.mark.slow
def test_the_script_for_a_gpu_runs(tmp_path):
    """Its figures mean nothing here; that it goes through from the check of correctness to the report does."""
    script = TESTS / "benchmarks" / "gpu_finetune.py"
    done = subprocess.run(
        [sys.executable, str(script), "--device", "cpu", "--small", "--out", str(tmp_path / "r.json")],
        env=ENVIRONMENT, capture_output=True, text=True, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["correctness"]["vit_tiny_patch16_224"]["pieces"] < 1e-3
    assert {row["compiled"] for row in report["rates"]} == {False, True}
