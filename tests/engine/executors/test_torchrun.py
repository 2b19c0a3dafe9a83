"""Several processes that run a suite as one: the scores of one process, and how they end together."""

import signal
import threading
from pathlib import Path

import psutil
import pytest
import torch.distributed as dist

import vitbench
from tests.making.command import TORCHRUN, process, started
from tests.making.jobs import make_job
from tests.making.plugins import REPLICATED, SMALL, SMALL_CNN
from tests.making.runs import wait_until
from tests.making.suites import TUNED, tuned
from vitbench.core.errors import VitbenchError
from vitbench.engine.executors import torchrun
from vitbench.engine.outcome import Outcome, failed
from vitbench.store.record_file import load

VITBENCH_TWICE = (*TORCHRUN, "-m", "vitbench")


@pytest.mark.slow
def test_torchrun_runs_a_suite_once_and_its_scores_are_those_of_one_process(suite_file, plugin, tmp_path):
    # Each process draws dropout's masks for its own share.
    Path(plugin).write_text(SMALL.replace("torch.nn.Dropout(0.05), ", ""))
    path = tuned(suite_file, steps=30, rates=[0.03, 0.1])
    out = tmp_path / "two"
    arguments = ("run", path, "--out", out, "--plugin", plugin, "--device", "cpu", "--limit", 300)
    done = process(*arguments, before=VITBENCH_TWICE)
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
    path = tuned(suite_file, steps=20_000, rates=[0.03])
    out = tmp_path / "two"
    arguments = ("run", path, "--out", out, "--plugin", plugin, "--device", "cpu", "--limit", 60)
    run = started(*arguments, before=VITBENCH_TWICE, VITBENCH_CHECKPOINT_S="0")
    wait_until(lambda: list((out / "checkpoints").rglob("*.pt")), 120)
    mine = psutil.Process(run.pid).children(recursive=True)
    second = next(p for p in mine if p.environ().get("RANK") == "1")
    second.send_signal(number)
    run.communicate(timeout=120)
    assert run.returncode != 0
    assert list((out / "checkpoints").rglob("*.pt"))
    assert not list((out / "records").glob("*.json"))


@pytest.mark.slow
def test_a_job_that_asks_for_several_processes_gets_them(suite_file, plugin, tmp_path):
    text = TUNED.format(steps=12, rates=[0.1], clip="none").replace(
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


def test_a_rank_waits_for_a_job_for_longer_than_any_timeout(monkeypatch):
    """Rank 0 may wait for hours for jobs that other runs hold."""
    store = dist.HashStore()
    monkeypatch.setattr(torchrun, "_store", lambda: store)
    monkeypatch.setattr(torchrun, "LOOK_S", 0.05)
    threading.Timer(0.3, lambda: store.set("job", "é")).start()
    assert torchrun._awaited("job") == "é"


def test_ranks_that_have_lost_their_gpus_end_with_what_to_do():
    record = failed(make_job(), "cpu", RuntimeError("CUDA error: an illegal memory access"))
    torchrun._check_usable(Outcome(record))
    with pytest.raises(VitbenchError, match=r"illegal memory access[\s\S]*run the same command again"):
        torchrun._check_usable(Outcome(record, spoils_process=True))


WATCHED = SMALL.replace(
    "        return self.body(images)",
    """        import os
        if self.training and os.environ.get("RANK") == "1":
            with open(os.environ["STEPS"], "a") as file:
                file.write(f"{os.getpid()} {len(images)}\\n")
            if len(images) > int(os.environ.get("MOST", 100)):
                raise torch.OutOfMemoryError("no")
        return self.body(images)""",
)
SPREAD = """
from vitbench.protocols.finetune import fsdp
fsdp.is_too_big = lambda *_, **__: True
"""


STEPS = 300


@pytest.fixture
def watched(suite_file, tmp_path):
    """A suite, a plugin that writes down the second process's steps, and the losses of one process."""
    suite = tuned(suite_file, steps=STEPS, rates=[0.03])
    plugin = tmp_path / "watched.py"
    plugin.write_text(WATCHED.replace("torch.nn.Dropout(0.05), ", ""))
    (alone,) = vitbench.run(suite, tmp_path / "one", plugins=[str(plugin)], limit=60)
    return suite, plugin, alone.trials[-1].curve["loss"]


def in_two_each(suite):
    """The suite whose jobs ask for two processes."""
    suite.write_text(suite.read_text().replace("recipe: own", "recipe: own, replicas: 2"))


def begun(suite, plugin, out, **how):
    """Its run, as a process."""
    arguments = ("run", suite, "--out", out, "--plugin", plugin, "--device", "cpu", "--limit", 60)
    return started(*arguments, VITBENCH_CHECKPOINT_S="0", STEPS=f"{out}.steps", **how)


def steps_of(out):
    """The images of each step of each second process, in their order."""
    found = {}
    for line in Path(f"{out}.steps").read_text().splitlines():
        found.setdefault(line.split()[0], []).append(int(line.split()[1]))
    return list(found.values())


@pytest.mark.slow
@pytest.mark.parametrize("shared", [True, False], ids=["suite", "job"])
def test_a_job_whose_process_was_killed_goes_on_from_its_checkpoint(watched, tmp_path, shared):
    """The other ends within a minute, and both start again: as torchrun was told, or by themselves."""
    suite, plugin, losses = watched
    out = tmp_path / "two"
    if not shared:
        in_two_each(suite)
    run = begun(
        suite,
        plugin,
        out,
        **({"before": (*TORCHRUN, "--max-restarts=1", "-m", "vitbench")} if shared else {}),
    )
    try:
        wait_until(lambda: list((out / "checkpoints").rglob("*.pt")), 120)
        ranks = [p for p in psutil.Process(run.pid).children(recursive=True) if "RANK" in p.environ()]
        next(p for p in ranks if p.environ()["RANK"] == "1").kill()
        assert psutil.wait_procs(ranks, timeout=60)[1] == []
        _, said = run.communicate(timeout=200)
    finally:
        run.terminate()
    assert run.returncode == 0, said
    (record,) = load(out)
    assert record.trials[-1].curve["loss"] == pytest.approx(losses, abs=1e-4)
    first, second = steps_of(out)
    assert len(second) < STEPS <= len(first) + len(second)


@pytest.mark.slow
def test_a_job_spread_over_processes_goes_on_in_smaller_pieces_when_memory_runs_out(watched, tmp_path):
    suite, plugin, losses = watched
    plugin.write_text(plugin.read_text() + SPREAD)
    in_two_each(suite)
    run = begun(suite, plugin, tmp_path / "two", MOST="12")
    try:
        _, said = run.communicate(timeout=280)
    finally:
        run.terminate()
    assert run.returncode == 0, said
    (record,) = load(tmp_path / "two")
    assert record.failure is None
    assert record.trials[-1].curve["loss"] == pytest.approx(losses, abs=1e-4)
    assert [max(images) for images in steps_of(tmp_path / "two")] == [16, 8]


@pytest.mark.slow
def test_nobody_trains_on_for_a_driver_that_was_killed(suite_file, tmp_path):
    plugin = tmp_path / "small_cnn.py"
    plugin.write_text(SMALL_CNN)
    path = suite_file(REPLICATED.replace("steps: 6", "steps: 100000"))
    out = tmp_path / "run"
    arguments = ("run", path, "--out", out, "--device", "cpu", "--plugin", plugin)
    driver = started(*arguments, VITBENCH_CHECKPOINT_S="0")
    wait_until(lambda: list((tmp_path / "run" / "checkpoints").rglob("*.pt")), 120)
    below = psutil.Process(driver.pid).children(recursive=True)
    assert len(below) >= 3  # torchrun and two that train
    driver.kill()
    driver.wait()
    _, alive = psutil.wait_procs(below, timeout=60)
    assert alive == []
    driver.communicate()
