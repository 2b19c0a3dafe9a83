"""Training that is cut off goes on from its checkpoint and ends with the same record."""

import signal
import time

import pytest

import vitbench
from tests.making.command import started
from tests.making.damage import flip
from tests.making.suites import tuned
from vitbench.engine.run import Overrides, RunOptions, run_suite
from vitbench.protocols.finetune import trainer
from vitbench.protocols.finetune.checkpoint import Checkpoints
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
    # Likelihoods are sums over images, which other numbers of threads round otherwise.
    further = {
        name: each.model_copy(
            update={
                "value": None if each.value is None else round(each.value, 8),
                "bins": tuple(
                    (images, round(confidence, 6), right) for images, confidence, right in each.bins or ()
                ),
            }
        )
        for name, each in record.further.items()
    }
    return record.model_copy(update={"cost": counted, "created": "", "env": None, "further": further})


@pytest.mark.parametrize(
    ("number", "run"),
    [
        pytest.param(signal.SIGKILL, "trial-0", marks=pytest.mark.slow),
        pytest.param(signal.SIGKILL, "trial-1", marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, "trial-1", marks=pytest.mark.slow),
        pytest.param(signal.SIGKILL, "final", marks=pytest.mark.slow),
    ],
)
def test_cut_off_in_any_run_it_goes_on_and_ends_with_the_same_record(
    suite_file, plugin, tmp_path, number, run
):
    path = tuned(suite_file, steps=60, rates=[0.03, 0.1])
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
