"""Schedules that count epochs, against the schedulers that their sources use, and what an epoch's batches hold."""

import math

import numpy as np
import pytest
import torch
from timm.scheduler import CosineLRScheduler
from torch.optim.lr_scheduler import LambdaLR

from vitbench.core.errors import UsageError
from vitbench.protocols.finetune.batches import Order
from vitbench.protocols.recipe import Recipe
from vitbench.protocols.recipes import Case, recipes_for


def optimiser(rate):
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=rate)


def only(name, examples, **changes):
    return recipes_for(name, Case("vtab/dtd", examples, 224**2), changes).recipes


@pytest.mark.parametrize(("examples", "batches"), [(1000, 15), (800, 12), (40, 1)])
def test_noahs_rates_are_those_of_timms_scheduler_one_epoch_late(examples, batches):
    """As NOAH calls it: `step(epoch)` after the epoch `epoch`, so that two epochs run at the first rate."""
    (how,) = only("noah", examples)
    assert (how.steps, how.optimiser, how.tune) == (100 * batches, "adamw", "lora")
    sgd = optimiser(0.001)
    scheduler = CosineLRScheduler(sgd, t_initial=100, lr_min=1e-5, warmup_t=10, warmup_lr_init=1e-6)
    for epoch in range(100):
        for batch in range(batches):
            assert how.learning_rate(epoch * batches + batch) == pytest.approx(
                sgd.param_groups[0]["lr"], rel=1e-12
            )
        scheduler.step(epoch)


@pytest.mark.parametrize(("examples", "batches"), [(1000, 8), (800, 7), (40, 1)])
def test_vpts_rates_change_once_an_epoch_from_zero(examples, batches):
    recipes = only("vpt", examples)
    assert len(recipes) == 10 * 4 * 6
    assert {(how.steps, how.warmup_steps, how.tune) for how in recipes} == {
        (100 * batches, 10 * batches, "vpt-deep")
    }
    rates = [5.0, 2.5, 1.0, 50.0, 25.0, 10.0, 0.5, 0.25, 0.1, 0.05]  # VPT:tune_vtab.py, for 256 images
    assert sorted({how.base_lr for how in recipes}) == sorted(rate / 256 * 128 for rate in rates)
    assert {how.weight_decay for how in recipes} == {0.01, 0.001, 0.0001, 0.0}

    def factor(epoch):  # VPT:src/solver/lr_scheduler.py
        progress = (epoch - 10) / 90
        return epoch / 10 if epoch < 10 else max(0.0, 0.5 * (1 + math.cos(math.pi * progress)))

    how = recipes[-1]
    sgd = optimiser(how.base_lr)
    scheduler = LambdaLR(sgd, factor)
    for epoch in range(100):
        for batch in range(batches):
            expected = sgd.param_groups[0]["lr"]
            assert how.learning_rate(epoch * batches + batch) == pytest.approx(expected, rel=1e-12)
        sgd.step()
        scheduler.step()


def test_the_linear_probe_of_vpt():
    recipes = only("vpt-linear", 1000)
    rates = [50.0, 25.0, 10.0, 5.0, 2.5, 1.0, 0.5, 0.25, 0.1, 0.05]
    assert sorted({how.base_lr for how in recipes}) == pytest.approx(
        sorted(rate / 256 * 1024 for rate in rates)
    )
    assert {(how.steps, how.tune, how.head_init) for how in recipes} == {(100, "head", "vpt")}
    assert len(recipes) == 40


def test_stated_steps_take_the_place_of_epochs():
    (how,) = only("noah", 1000, steps=50)
    assert (how.steps, how.warmup_steps, how.epochs, how.last_batch) == (50, 5, None, "span")
    (how,) = only("noah", 1000, epochs=20)
    assert (how.steps, how.warmup_steps) == (20 * 15, 10 * 15)
    recipes = only("vpt", 1000, base_lr=(0.1,), weight_decay=0.0, prompt_tokens=(5, 7))
    assert [how.prompt_tokens for how in recipes] == [5, 7]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"last_batch": "drop"}, "need epochs"),
        ({"warmup_epochs": 3}, "need epochs"),
        ({"epochs": 2, "warmup_epochs": 3}, "exceeds epochs 2"),
        ({"warmup_lr": 0.1}, "warmup_lr needs decay: cosine-whole"),
        ({"decay": "staircase", "decay_steps": (5,), "min_lr": 0.01}, "min_lr and warmup_reaches: last need"),
        ({"epochs": 2, "rate_lag": 1, "rate_every": "step"}, "needs rate_every: epoch"),
        ({"rand_augment": "rand-m9-inc1"}, "needs crop: random_resized"),
        ({"rand_augment": "rand-m9", "crop": "random_resized"}, "such as rand-m9-mstd0.5-inc1"),
        ({"tune": "last-0"}, "unknown 'last-0': one of all, head"),
        ({"tune": "lorra"}, "unknown 'lorra'"),
    ],
)
def test_fields_that_do_not_fit_are_refused(fields, said):
    with pytest.raises(ValueError, match=said):
        Recipe(steps=10, warmup_steps=0, base_lr=0.1, **fields)


@pytest.mark.parametrize("examples", [1, 5, 63, 64, 65, 128, 1000])
@pytest.mark.parametrize("last", ["keep", "drop"])
def test_an_epoch_has_every_example_once_or_leaves_out_less_than_a_batch(examples, last):
    order = Order(examples, 64, 0, last)
    for epoch in range(2):
        batches = [order(epoch * order.batches_per_epoch + k) for k in range(order.batches_per_epoch)]
        seen = np.concatenate(batches)
        assert len(set(seen)) == len(seen)
        expected = examples if last == "keep" or examples < 64 else examples // 64 * 64
        assert len(seen) == expected
        assert all(len(batch) == 64 for batch in batches[:-1])
    for steps in (0, 1, 3, 2 * order.batches_per_epoch + 1):
        assert order.images(steps) == sum(len(order(step)) for step in range(steps))


def test_batches_that_span_epochs_count_their_images():
    assert Order(100, 64, 0).images(5) == 320


@pytest.mark.parametrize("examples", [1, 40, 64, 800, 1000, 4096])
def test_steps_fit_the_batches_of_an_epoch(examples):
    for name in ("vpt", "vpt-linear", "noah"):
        for how in only(name, examples)[:1]:
            order = Order(examples, how.batch_size, 0, how.last_batch)
            assert how.steps == how.epochs * order.batches_per_epoch


def test_the_protocol_takes_the_new_options():
    from vitbench.core.registry import PROTOCOLS

    made = PROTOCOLS.make(
        "finetune", {"recipe": "noah", "tune": "vpt-deep", "prompt_tokens": [5, 10], "weight_decay": [0, 0.1]}
    )
    assert made[1].tune == "vpt-deep"
    with pytest.raises(UsageError, match="unknown 'lorra'"):
        PROTOCOLS.make("finetune", {"tune": "lorra"})
