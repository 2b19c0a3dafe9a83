"""Several processes that train as one give the losses and weights of one."""

import json

import pytest

from tests.making.command import TORCHRUN, process
from tests.making.distributed_run import CUT_AFTER, RECIPE, Small, batches, squares
from tests.making.paths import TESTS
from vitbench.protocols.finetune import train
from vitbench.protocols.finetune.checkpoint import Checkpoints


def together(out, *how):
    """Two processes that train as one: what they print, and their exit code."""
    script = TESTS / "making" / "distributed_run.py"
    done = process(script, out, *how, before=TORCHRUN, VITBENCH_CHECKPOINT_S="1000")
    assert bool(done.returncode) == bool({"cut", "alone"} & set(how)), done.stderr
    return done


def alone(checkpoint=None):
    backbone = Small()
    log = train(backbone, lambda first: batches()[first:], 4, RECIPE, checkpoint=checkpoint)
    return log.losses, squares(backbone, log.head)


def is_as_alone(losses, weights):
    expected = alone()
    return losses == pytest.approx(expected[0], abs=1e-5) and weights == pytest.approx(expected[1], rel=1e-5)


@pytest.mark.slow
def test_two_processes_give_the_losses_and_weights_of_one(tmp_path):
    """One of them runs out of memory, and goes on in pieces of one."""
    together(tmp_path / "out.json")
    assert is_as_alone(*json.loads((tmp_path / "out.json").read_text()))


@pytest.mark.slow
def test_spread_over_two_processes_and_cut_off_it_goes_on_there_or_in_one(tmp_path):
    """FSDP2, as for a model that one GPU cannot train."""
    together(tmp_path / "out.json", "cut")
    (state,) = (tmp_path / "checkpoints").glob("*.pt")
    kept = state.read_bytes()
    checkpoint = Checkpoints(tmp_path / "checkpoints").checkpoint("run", RECIPE.fields())
    assert checkpoint.read()["steps_done"] == CUT_AFTER + 1
    assert is_as_alone(*alone(checkpoint))
    state.write_bytes(kept)
    together(tmp_path / "out.json", "sharded")
    assert is_as_alone(*json.loads((tmp_path / "out.json").read_text()))


@pytest.mark.slow
def test_a_process_that_fails_alone_ends_the_others(tmp_path):
    """They would wait for it for half an hour."""
    said = together(tmp_path / "out.json", "alone").stderr
    assert "one rank failed alone: OSError: its own disk" in said
