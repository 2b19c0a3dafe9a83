"""Training that is cut off goes on from its checkpoint and ends with the same record."""

import errno
import io
import signal
import threading
import time

import pytest
import torch

import vitbench
from tests.making.command import started
from tests.making.damage import flip
from tests.making.suites import tuned
from vitbench.compute.meter import Meter
from vitbench.core.files import read_checked
from vitbench.engine.run import Overrides, RunOptions, run_suite
from vitbench.protocols.finetune import checkpoint, trainer
from vitbench.protocols.finetune.checkpoint import Checkpoints
from vitbench.protocols.finetune.snapshot import snapshot
from vitbench.protocols.recipes import Recipe
from vitbench.store.record_file import load


def test_a_finished_trial_with_a_flipped_bit_is_done_again(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.finish("trial-0", {"base_lr": 0.1}, {"value": 0.186, "images": [1, 2]})
    assert checkpoints.done("trial-0", {"base_lr": 0.1}) == {"value": 0.186, "images": [1, 2]}
    (path,) = tmp_path.glob("*.json")
    for place in range(len(path.read_bytes())):
        flip(path, place)
        assert checkpoints.done("trial-0", {"base_lr": 0.1}) is None
        flip(path, place)


def start(path, plugin, out):
    """A run that saves its state after every step."""
    return started("run", path, "--out", out, "--plugin", plugin, VITBENCH_CHECKPOINT_S="0")


def outcome(out):
    """A record without when, where and how fast."""
    (record,) = load(out)
    varying = {"seconds": {}, "overhead": {}, "core_seconds": 0.0, "peak_memory_bytes": 0}
    counted = record.cost.model_copy(update=varying)
    return record.model_copy(update={"cost": counted, "created": "", "env": None})


@pytest.mark.parametrize(
    ("number", "name"),
    [
        pytest.param(signal.SIGKILL, "trial-0", marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, "trial-1", marks=pytest.mark.slow),
        pytest.param(signal.SIGKILL, "final", marks=pytest.mark.slow),
    ],
)
def test_cut_off_in_any_run_it_goes_on_and_ends_with_the_same_record(
    suite_file, plugin, tmp_path, number, name
):
    path = tuned(suite_file, steps=60, rates=[0.03, 0.1])
    cut = start(path, plugin, tmp_path / "cut")
    states = tmp_path / "cut" / "checkpoints"
    seen = set()
    while cut.poll() is None and len(seen) < 5:  # some steps into the run
        seen |= {p.stat().st_mtime_ns for p in states.rglob(f"{name}-*.pt") if p.exists()}
        time.sleep(0.005)
    cut.send_signal(number)
    cut.communicate(timeout=60)
    assert cut.returncode == {signal.SIGKILL: -9, signal.SIGTERM: 130}[number]
    assert not list((tmp_path / "cut" / "records").glob("*.json"))
    for out in ("cut", "whole"):  # by the same command: another number of threads rounds otherwise
        run = start(path, plugin, tmp_path / out)
        run.communicate(timeout=300)
        assert run.returncode == 0
    assert outcome(tmp_path / "cut") == outcome(tmp_path / "whole")
    assert not list(states.rglob("*.pt"))


def test_a_job_that_fails_afterwards_keeps_what_it_has_trained(suite_file, plugin, tmp_path, monkeypatch):
    """A retry goes on from its state: here from the last step."""
    path = tuned(suite_file, steps=30)
    original = trainer.Trainer.step
    monkeypatch.setattr(trainer.Trainer, "step", lambda *a: (time.sleep(0.02), original(*a)))
    monkeypatch.setattr("vitbench.engine.job.answer", lambda *_, **__: 1 / 0)
    (failed,) = vitbench.run(path, tmp_path / "run", plugins=[plugin], limit=60)
    assert failed.failure.kind == "ZeroDivisionError"
    monkeypatch.undo()
    steps = []
    monkeypatch.setattr(trainer.Trainer, "step", lambda *a: (steps.append(1), original(*a)))
    overrides = Overrides(plugins=[plugin], limit=60)
    again = run_suite(str(path), tmp_path / "run", overrides, RunOptions(retry_failed=True))
    assert again.failed == 0
    assert steps == []
    assert not list((tmp_path / "run" / "checkpoints").rglob("*.pt"))
    (record,) = again.records
    assert record.cost.seconds["adapt"] >= 30 * 0.02  # of the first attempt
    assert record.cost.core_seconds > 0


class Steps:
    """A training run whose state is its only weight."""

    device, recipe = "cpu", Recipe(steps=3, warmup_steps=0, base_lr=0.1)

    def __init__(self):
        self.steps_done, self.weight = 0, torch.zeros(2**20)

    def step(self):
        self.steps_done += 1
        self.weight += 1

    def agree(self, keep, stop):
        return keep, stop

    def state(self):
        return {"steps_done": self.steps_done, "weight": snapshot(self.weight)}


def slow_write(monkeypatch, begun, end):
    """Have writing wait for an event, after another one is set."""
    plain = checkpoint.write_checked

    def write(path, content):
        begun.set()
        assert end.wait(60)
        plain(path, content)

    monkeypatch.setattr(checkpoint, "write_checked", write)


def test_training_goes_on_while_a_checkpoint_is_written(tmp_path, monkeypatch):
    """What is written is the state when it was due, and no other is due meanwhile."""
    begun, end, run = threading.Event(), threading.Event(), Steps()
    slow_write(monkeypatch, begun, end)
    monkeypatch.setattr(checkpoint, "EVERY_S", 1e-9)
    with Checkpoints(tmp_path) as checkpoints:
        kept = checkpoints.checkpoint("run", {})
        run.step()
        kept.keep(run)
        assert begun.wait(60)
        run.step()
        kept.keep(run)
        assert checkpoints.is_writing
        end.set()
        state = kept.read()  # waits
        assert state["steps_done"] == 1
        assert torch.equal(state["weight"], torch.ones(2**20))
        run.step()
        kept.keep(run)
    assert Checkpoints(tmp_path).checkpoint("run", {}).read()["steps_done"] == 3


def test_a_checkpoint_that_cannot_be_written_fails_the_run(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "EVERY_S", 0)
    plain = checkpoint.write_checked
    monkeypatch.setattr(checkpoint, "write_checked", full)
    with pytest.raises(OSError, match="No space"):
        kept_once(tmp_path)
    with pytest.raises(KeyboardInterrupt):  # is not hidden by it
        kept_once(tmp_path, then=KeyboardInterrupt)
    monkeypatch.setattr(checkpoint, "write_checked", plain)
    with pytest.raises(KeyboardInterrupt):  # and what is being written is finished
        kept_once(tmp_path, then=KeyboardInterrupt)
    assert Checkpoints(tmp_path).checkpoint("run", {}).read()["steps_done"] == 0


def kept_once(folder, then=None):
    with Checkpoints(folder) as checkpoints:
        checkpoints.checkpoint("run", {}).keep(Steps())
        if then:
            raise then


def test_writing_is_no_part_of_the_cost(tmp_path, monkeypatch):
    """Neither its seconds nor what its thread computes, whether it is waited for or not."""

    def busy(*_):
        until = time.thread_time() + 0.3
        while time.thread_time() < until:
            pass

    monkeypatch.setattr(checkpoint, "write_checked", busy)
    for sleeps_s in (0.0, 0.6):
        meter = Meter("cpu")
        with meter.phase("adapt"), Checkpoints(tmp_path) as checkpoints:
            checkpoints.write("run", {}, lambda: None)
            time.sleep(sleeps_s)
        assert meter.phases["checkpoints"].core_seconds == pytest.approx(0.3, abs=0.1)
        assert meter.phases["adapt"].core_seconds < 0.1


def test_the_memory_of_a_snapshot_is_free_when_it_has_been_written(tmp_path):
    """Else the next one takes as much again, while the thread lets go of the call: twice the pinned memory, for good."""
    state, held = {"weights": torch.ones(3)}, []
    with Checkpoints(tmp_path) as kept:
        kept.write("run.pt", state, lambda: held.append(len(state)))
        kept.wait()
        assert (held, state) == ([1], {})
    assert torch.load(io.BytesIO(read_checked(tmp_path / "run.pt")))["weights"].tolist() == [1.0] * 3
