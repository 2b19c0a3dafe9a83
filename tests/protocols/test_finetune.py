import json
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.backbones.test_npz import saved
from tests.backbones.test_npz import weights as npz_weights
from vitbench.backbones.models.built import BuiltBackbone
from vitbench.plugins import load_all
from vitbench.protocols.finetune import train
from vitbench.protocols.recipes import Recipe
from vitbench.protocols.tuning import checkpoints, fitting, training
from vitbench.protocols.tuning.checkpoints import Shelf
from vitbench.registry import BACKBONES

GOLDEN = Path(__file__).parents[1] / "golden"
SCHEDULES = json.loads((GOLDEN / "lr_schedules.json").read_text())


@pytest.mark.parametrize("setting", SCHEDULES)
def test_the_learning_rate_is_vit_jaxs(setting):
    total, base, warmup = json.loads(setting.replace("(", "[").replace(")", "]"))
    recipe = Recipe(total, warmup, base)
    found = [recipe.learning_rate(round(i * total / 50)) for i in range(len(SCHEDULES[setting]))]
    # The reference rounds every operation to float32: two units in the last place of the base rate.
    assert found == pytest.approx(SCHEDULES[setting], rel=0, abs=2 * 2**-23 * base)


class Linear(nn.Module):
    feature_dim = 6

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.body = nn.Linear(12, 6)

    def features(self, images):
        return self.body(images.flatten(1)).tanh()


def batches(n):
    generator = torch.Generator().manual_seed(1)
    for _ in range(n):
        yield torch.randn(8, 3, 2, 2, generator=generator), torch.randint(0, 4, (8,), generator=generator)


def test_steps_are_clipped_momentum_sgd_from_a_zero_head():
    """Against the same steps written out in NumPy."""
    recipe = Recipe(steps=12, warmup_steps=3, base_lr=0.5, momentum=0.9, clip_norm=0.05)
    backbone = Linear()
    w, b = (p.detach().double().numpy().copy() for p in (backbone.body.weight, backbone.body.bias))
    params = [w, b, np.zeros((4, 6)), np.zeros(4)]
    buffers = [np.zeros_like(p) for p in params]
    losses, norms = [], []
    for step, (images, labels) in enumerate(batches(12)):
        x, y = images.flatten(1).double().numpy(), labels.numpy()
        hidden = np.tanh(x @ params[0].T + params[1])
        logits = hidden @ params[2].T + params[3]
        p = np.exp(logits - logits.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        losses.append(-np.log(p[np.arange(8), y]).mean())
        d_logits = (p - np.eye(4)[y]) / 8
        d_hidden = d_logits @ params[2] * (1 - hidden**2)
        grads = [d_hidden.T @ x, d_hidden.sum(0), d_logits.T @ hidden, d_logits.sum(0)]
        norms.append(np.sqrt(sum((g**2).sum() for g in grads)))
        for buffer, param, grad in zip(buffers, params, grads, strict=True):
            buffer *= 0.9
            buffer += grad * min(1, 0.05 / norms[-1])
            param -= recipe.learning_rate(step) * buffer
    log = train(backbone, batches(12), 4, recipe)
    assert log.losses == pytest.approx(losses, abs=1e-4)
    assert log.grad_norms == pytest.approx(norms, rel=1e-3)
    assert log.losses[0] == pytest.approx(np.log(4), abs=1e-6)
    assert log.learning_rates[0] == 0
    assert np.abs(log.head.weight.detach().numpy() - params[2]).max() < 1e-4


def test_the_backbone_is_left_in_eval_mode():
    backbone = Linear()
    train(backbone, batches(2), 4, Recipe(2, 0, 0.1))
    assert not backbone.training


def linear_run(recipe, folder=None, **how):
    """A run of the linear model, with its state kept in a folder."""
    backbone = Linear()
    place = Shelf(folder).place("run", recipe.fields()) if folder else None
    return backbone, train(
        backbone, lambda first: islice(batches(100), first, None), 4, recipe, place=place, **how
    )


@pytest.mark.parametrize(
    "options", [{}, {"averaging": 0.9}, {"momentum_dtype": "bfloat16"}, {"clip_norm": None}]
)
def test_cut_off_at_any_step_it_ends_the_same_to_the_bit(tmp_path, monkeypatch, options):
    recipe = Recipe(steps=9, warmup_steps=2, base_lr=0.3, **options)
    whole_backbone, whole = linear_run(recipe)
    monkeypatch.setattr(checkpoints, "EVERY_S", 0)
    for cut in range(1, 9):
        folder = tmp_path / str(cut)
        place, backbone = Shelf(folder).place("run", recipe.fields()), Linear()
        with pytest.raises(InterruptedError):
            train(backbone, cutting(batches(100), cut), 4, recipe, place=place)
        again_backbone, again = linear_run(recipe, folder)
        assert (again.losses, again.grad_norms) == (whole.losses, whole.grad_norms)
        assert torch.equal(again.head.weight, whole.head.weight)
        assert torch.equal(again_backbone.body.weight, whole_backbone.body.weight)


def cutting(coming, steps):
    """So many batches, and then the power is gone."""
    yield from islice(coming, steps)
    raise InterruptedError


@pytest.mark.parametrize(
    "harm", [lambda data: data[: len(data) // 2], lambda data: data[:-9] + b"x" + data[-8:]]
)
def test_a_damaged_state_is_not_gone_on_from(tmp_path, monkeypatch, harm):
    recipe = Recipe(steps=6, warmup_steps=2, base_lr=0.3)
    _, whole = linear_run(recipe, tmp_path)
    (file,) = tmp_path.glob("*.pt")
    file.write_bytes(harm(file.read_bytes()))
    _, again = linear_run(recipe, tmp_path)
    assert again.losses == whole.losses


def test_in_pieces_it_is_the_same_but_for_rounding(monkeypatch):
    recipe = Recipe(steps=8, warmup_steps=2, base_lr=0.3)
    _, whole = linear_run(recipe)
    monkeypatch.setattr(fitting, "ON_CPU", 3)
    _, pieces = linear_run(recipe)
    assert pieces.losses == pytest.approx(whole.losses, abs=1e-6)
    assert pieces.grad_norms == pytest.approx(whole.grad_norms, rel=1e-5)


def test_out_of_memory_halves_the_pieces_and_goes_on():
    recipe = Recipe(steps=8, warmup_steps=2, base_lr=0.3)
    _, whole = linear_run(recipe)

    seen = []

    class Greedy(Linear):
        def features(self, images):
            seen.append(len(images))
            if len(images) > 2:
                raise torch.OutOfMemoryError("no")
            return super().features(images)

    log = train(Greedy(), batches(8), 4, recipe)
    assert log.losses == pytest.approx(whole.losses, abs=1e-6)
    assert [n for n in seen if n > 2] == [8, 4]


def test_the_average_leaves_the_initial_weights_out():
    recipe = Recipe(steps=5, warmup_steps=0, base_lr=0.3, averaging=0.8)
    heads = []
    trainer = training.Trainer(Linear(), 4, recipe, dtype="float32")
    trainer.backbone.train()
    for images, labels in islice(batches(9), 5):
        trainer.step(images, labels)
        heads.append(trainer.head.weight.detach().double().numpy().copy())
    weights = 0.8 ** np.arange(4, -1, -1)
    expected = np.tensordot(weights / weights.sum(), np.stack(heads), 1)
    trainer.finish()
    assert np.abs(trainer.head.weight.detach().numpy() - expected).max() < 1e-6


def test_momentum_in_bfloat16_is_rounded_only_where_it_is_kept():
    recipe = Recipe(steps=6, warmup_steps=0, base_lr=0.3, clip_norm=None, momentum_dtype="bfloat16")
    _, log = linear_run(recipe)
    backbone = Linear()
    head = nn.Linear(6, 4)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    weights = [*backbone.parameters(), *head.parameters()]
    kept = [torch.zeros_like(w).bfloat16() for w in weights]
    for step, (images, labels) in enumerate(batches(6)):
        loss = nn.functional.cross_entropy(head(backbone.features(images)), labels)
        gradients = torch.autograd.grad(loss, weights)
        for i, (weight, gradient) in enumerate(zip(weights, gradients, strict=True)):
            moved = 0.9 * kept[i].float() + gradient
            kept[i] = moved.bfloat16()
            weight.data -= recipe.learning_rate(step) * moved
    assert (log.head.weight - head.weight).abs().max() < 1e-6


@pytest.mark.parametrize(("rate", "reason"), [(1e30, "not finite"), (300.0, "above chance")])
def test_a_hopeless_run_ends_early_and_says_why(rate, reason):
    recipe = Recipe(steps=400, warmup_steps=0, base_lr=rate, clip_norm=None)

    def noise():
        generator = torch.Generator().manual_seed(1)
        while True:
            yield (
                10 * torch.randn(8, 3, 2, 2, generator=generator),
                torch.randint(0, 4, (8,), generator=generator),
            )

    log = train(Linear(), noise(), 4, recipe)
    assert reason in log.diverged
    assert len(log.losses) < 400


def test_twenty_steps_of_a_vit_are_the_references(tmp_path):
    golden = np.load(GOLDEN / "finetune_trajectory.npz")
    backbone = npz_backbone(tmp_path)
    rng = np.random.default_rng(21)
    x = torch.from_numpy(rng.uniform(-1, 1, (64, 64, 64, 3)).astype(np.float32)).permute(0, 3, 1, 2)
    y = torch.from_numpy(rng.integers(0, 7, 64))
    rows = [torch.arange(16) + s % 4 * 16 for s in range(20)]
    recipe = Recipe(steps=20, warmup_steps=5, base_lr=0.03, batch_size=16)
    log = train(backbone, [(x[r], y[r]) for r in rows], 7, recipe)
    assert log.losses == pytest.approx(golden["losses"].tolist(), abs=1e-4)
    assert log.grad_norms == pytest.approx(golden["grad_norms"].tolist(), rel=1e-3)
    assert log.learning_rates == pytest.approx(golden["lrs"].tolist(), rel=1e-6, abs=1e-9)
    with torch.no_grad():
        logits = log.head(backbone.features(x[:16])).numpy()
    assert np.abs(logits - golden["final_logits"]).max() < 1e-3


def npz_backbone(tmp_path):
    """The reference's small ViT, its weights made from their recipe."""
    spec = np.load(GOLDEN / "vit_a.npz")["spec"]
    path = saved(npz_weights(spec, "a"), tmp_path)
    load_all()
    entry, module = BACKBONES.make(f"npz:{path}", {})
    return BuiltBackbone(module, "vit_a", entry.labels)
