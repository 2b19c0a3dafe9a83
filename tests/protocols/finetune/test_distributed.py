"""Several processes that train as one give the losses and weights of one."""

import json

import pytest
import torch
import torch.distributed as dist

from tests.making.command import FOUR_TIMES, TORCHRUN, process
from tests.making.distributed_run import CUT_AFTER, RECIPE, Small, batches, squares
from tests.making.paths import TESTS
from vitbench.protocols.finetune import distributed, train
from vitbench.protocols.finetune.checkpoint import Checkpoints
from vitbench.protocols.finetune.gradient_sum import GradientSum


def together(out, *how, before=TORCHRUN):
    """Two processes that train as one: what they print, and their exit code."""
    script = TESTS / "making" / "distributed_run.py"
    done = process(script, out, *how, before=before, VITBENCH_CHECKPOINT_S="1000")
    assert bool(done.returncode) == bool({"cut", "alone"} & set(how)), done.stderr
    return done


def alone(checkpoint=None):
    backbone = Small()
    log = train(backbone, lambda first: batches()[first:], 4, RECIPE, checkpoint=checkpoint)
    return log.losses, squares(backbone, log.head)


def is_as_alone(losses, weights, _under_way=()):
    expected = alone()
    return losses == pytest.approx(expected[0], abs=1e-5) and weights == pytest.approx(expected[1], rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("before", [TORCHRUN, FOUR_TIMES], ids=["two", "four"])
def test_several_processes_give_the_losses_and_weights_of_one(tmp_path, before):
    """One of them runs out of memory in its backward pass, and all go on in pieces of one."""
    together(tmp_path / "out.json", before=before)
    found = json.loads((tmp_path / "out.json").read_text())
    assert is_as_alone(*found)
    # The first step twice, in pieces of two and of one, after which the order is known. Of five buckets one is of an unused
    # weight, and one waits for the last gradient.
    assert found[2] == [2, 2, *[3] * 7]


def test_gradients_are_sent_while_others_are_computed_whatever_the_order_of_the_weights(monkeypatch):
    """After one step the buckets follow the order of arrival; a weight without gradient delays none, and keeps none."""
    sent = []
    monkeypatch.setattr(distributed, "BUCKET_BYTES", 1)
    monkeypatch.setattr(dist, "all_reduce", lambda _flat, async_op: sent.append(len(sums.arrived)) or Done())
    a, b, unused = (torch.nn.Parameter(torch.ones(2)) for _ in range(3))
    sums = GradientSum([b, unused, a])  # the gradient of a is the last to come
    for expected in ([2, 2, 2], [1, 2, 2]):
        sent.clear()
        a.grad = b.grad = None
        sums.begin()
        ((a * 2) * b).sum().backward()
        assert sums.end(True)
        assert sent == expected
    assert unused.grad is None
    assert a.grad.tolist() == [2, 2]


class Done:
    """An all-reduce of one process."""

    def wait(self):
        """It is."""


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
def test_spread_over_two_processes_it_starts_again_in_smaller_pieces_when_memory_runs_out(tmp_path):
    """One of them has run out, at a layer at which the other waits for it."""
    done = together(tmp_path / "out.json", "tight", before=(*TORCHRUN, "--max-restarts=1"))
    assert "memory ran out for 2 images" in done.stderr
    assert is_as_alone(*json.loads((tmp_path / "out.json").read_text()))


@pytest.mark.slow
def test_a_process_that_fails_alone_ends_the_others(tmp_path):
    """They would wait for it for half an hour."""
    said = together(tmp_path / "out.json", "alone").stderr
    assert "one rank failed alone: OSError: its own disk" in said
