import json
import math
import statistics
from itertools import islice

import numpy as np
import pytest
import torch
from torch import nn

from tests.making.npz import saved
from tests.making.npz import weights as npz_weights
from tests.making.paths import GOLDEN
from vitbench.backbones.models.wrapper import BuiltBackbone
from vitbench.core.registry import BACKBONES
from vitbench.engine.components import load_all
from vitbench.protocols.finetune import checkpoint, micro_batch, train
from vitbench.protocols.finetune.checkpoint import Checkpoints
from vitbench.protocols.finetune.optimiser import build_optimiser, set_rate
from vitbench.protocols.finetune.trainer import Trainer
from vitbench.protocols.recipes import Recipe

SCHEDULES = json.loads((GOLDEN / "lr_schedules.json").read_text())


@pytest.mark.parametrize("setting", SCHEDULES)
def test_the_learning_rate_matches_vit_jax(setting):
    total, base, warmup = json.loads(setting.replace("(", "[").replace(")", "]"))
    recipe = Recipe(total, warmup, base)
    found = [recipe.learning_rate(round(i * total / 50)) for i in range(len(SCHEDULES[setting]))]
    # The reference rounds every operation to float32: tolerance two units in the last place of the base learning rate.
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
    """Compared with the same steps in NumPy."""
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


def linear_run(recipe, folder=None, steps=None, **how):
    """Train the linear model, with checkpoints in `folder` if given; if `steps` are given, cut off after so many."""
    backbone = Linear()

    def from_step(first):
        made = islice(batches(100), first, None)
        return interrupted(made, steps) if steps else made

    with Checkpoints(folder) as checkpoints:
        saved_in = checkpoints.checkpoint("run", recipe.fields())
        return backbone, train(backbone, from_step, 4, recipe, checkpoint=saved_in, **how)


@pytest.mark.parametrize(
    "options", [{}, {"averaging": 0.9}, {"momentum_dtype": "bfloat16"}, {"clip_norm": None}]
)
def test_a_run_interrupted_at_any_step_resumes_bit_for_bit(tmp_path, monkeypatch, options):
    recipe = Recipe(steps=9, warmup_steps=2, base_lr=0.3, **options)
    whole_backbone, whole = linear_run(recipe)
    monkeypatch.setattr(checkpoint, "EVERY_S", 0)
    for cut in range(1, 9):
        folder = tmp_path / str(cut)
        with pytest.raises(InterruptedError):
            linear_run(recipe, folder, steps=cut)
        with Checkpoints(folder) as checkpoints:
            assert checkpoints.checkpoint("run", recipe.fields()).read()["steps_done"] == cut
        again_backbone, again = linear_run(recipe, folder)
        assert (again.losses, again.grad_norms) == (whole.losses, whole.grad_norms)
        assert torch.equal(again.head.weight, whole.head.weight)
        assert torch.equal(again_backbone.body.weight, whole_backbone.body.weight)


def interrupted(batches, steps):
    """Yield so many batches, then fail as if the power were cut."""
    yield from islice(batches, steps)
    raise InterruptedError


@pytest.mark.parametrize(
    "harm", [lambda data: data[: len(data) // 2], lambda data: data[:-9] + b"x" + data[-8:]]
)
def test_a_damaged_checkpoint_is_not_used(tmp_path, monkeypatch, harm):
    recipe = Recipe(steps=6, warmup_steps=2, base_lr=0.3)
    _, whole = linear_run(recipe, tmp_path)
    (file,) = tmp_path.glob("*.pt")
    file.write_bytes(harm(file.read_bytes()))
    _, again = linear_run(recipe, tmp_path)
    assert again.losses == whole.losses


def test_gradient_accumulation_changes_results_by_rounding_only(monkeypatch):
    recipe = Recipe(steps=8, warmup_steps=2, base_lr=0.3)
    _, whole = linear_run(recipe)
    monkeypatch.setattr(micro_batch, "on_cpu", lambda _size_px: 3)
    _, accumulated = linear_run(recipe)
    assert accumulated.losses == pytest.approx(whole.losses, abs=1e-6)
    assert accumulated.grad_norms == pytest.approx(whole.grad_norms, rel=1e-5)


def test_small_images_use_larger_micro_batches():
    sizes = {8: 256, 32: 256, 48: 64, 64: 64, 96: 32, 224: 32, 384: 8}
    assert {size_px: micro_batch.on_cpu(size_px) for size_px in sizes} == sizes
    assert micro_batch.size_for(torch.nn.Identity(), torch.empty(40, 3, 8, 8), "float32") == 40


def test_out_of_memory_halves_the_micro_batch_and_continues():
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


def test_the_average_excludes_the_initial_weights():
    recipe = Recipe(steps=5, warmup_steps=0, base_lr=0.3, averaging=0.8)
    heads = []
    trainer = Trainer(Linear(), 4, recipe, dtype="float32")
    trainer.backbone.train()
    for images, labels in islice(batches(9), 5):
        trainer.step(images, labels)
        heads.append(trainer.head.weight.detach().double().numpy().copy())
    weights = 0.8 ** np.arange(4, -1, -1)
    expected = np.tensordot(weights / weights.sum(), np.stack(heads), 1)
    trainer.finish()
    assert np.abs(trainer.head.weight.detach().numpy() - expected).max() < 1e-6


# optax 0.2.8 under jax.jit: sgd(0.1, momentum=0.9, accumulator_dtype="bfloat16") from zeros, with these gradients.
OPTAX_GRADIENTS = [
    [-0.802, -1.324, -0.248, 0.42], [1.136, 0.11, -0.553, -0.785], [0.749, 1.635, 0.273, -1.233],
    [-0.958, 1.6, 0.203, -1.732], [-0.084, -1.163, -0.629, -0.488], [-0.713, 0.553, -0.063, -0.589],
]  # fmt: skip
OPTAX_WEIGHTS = [
    [0.080200002, 0.13240001, 0.024800001, -0.041999999], [0.038545188, 0.24002184, 0.10238546, -0.0012273522],
    [-0.073731229, 0.17338464, 0.14492494, 0.15874715], [-0.07900545, -0.046628173, 0.16287872, 0.47583753],
    [-0.075343303, -0.12826519, 0.24192253, 0.80961066], [-0.00075312593, -0.2569142, 0.31911486, 1.1689258],
]  # fmt: skip


def test_bfloat16_momentum_matches_optax():
    recipe = Recipe(steps=6, warmup_steps=0, base_lr=0.1, momentum_dtype="bfloat16")
    weight = nn.Parameter(torch.zeros(4))
    optimiser = build_optimiser(nn.ParameterList([weight]), recipe, fused=True)
    set_rate(optimiser, 0.1)
    for gradient, wanted in zip(OPTAX_GRADIENTS, OPTAX_WEIGHTS, strict=True):
        weight.grad = torch.tensor(gradient)
        optimiser.step()
        assert weight.tolist() == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize(("rate", "reason"), [(1e30, "not finite"), (300.0, "above chance")])
def test_a_diverging_run_stops_early_with_a_reason(rate, reason):
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


@pytest.mark.parametrize(("steps", "ended"), [(10, 10), (39, 39), (10_000, 1000)])
def test_divergence_is_found_in_short_runs_and_early_in_long_ones(steps, ended):
    """Random labels, at a learning rate that drives the loss into the hundreds."""
    recipe = Recipe(steps=steps, warmup_steps=0, base_lr=300.0, clip_norm=None)
    log = train(Linear(), noise(), 4, recipe)
    assert "above chance" in log.diverged
    assert len(log.losses) == ended


class Loud(Linear):
    """Features so large that a random head is far above chance."""

    def features(self, images):
        return 10 * super().features(images)


@pytest.mark.parametrize("tune", ["all", "head"])
def test_a_random_head_that_begins_above_chance_has_not_diverged_while_it_falls(tune):
    """A dozen steps, as of a short run by NOAH's recipe, are not enough to reach chance."""
    fields = {"steps": 12, "warmup_steps": 2, "clip_norm": None, "head_init": "torch", "tune": tune}
    torch.manual_seed(0)
    log = train(Loud(), noise(), 4, Recipe(base_lr=1e-4, **fields))
    assert statistics.median(log.losses) > 1.05 * math.log(4)
    assert log.diverged == ""
    torch.manual_seed(0)
    assert "above chance" in train(Loud(), noise(), 4, Recipe(base_lr=30.0, **fields)).diverged


def noise():
    generator = torch.Generator().manual_seed(1)
    while True:
        images = 10 * torch.randn(8, 3, 2, 2, generator=generator)
        yield images, torch.randint(0, 4, (8,), generator=generator)


def test_a_diverged_run_is_still_diverged_when_resumed(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "EVERY_S", 0)
    for rate, steps in ((300.0, 40), (1e30, 400)):
        recipe = Recipe(steps=steps, warmup_steps=0, base_lr=rate, clip_norm=None)
        saved_in = Checkpoints(tmp_path).checkpoint(f"run-{rate}", recipe.fields())
        first = train(Linear(), noise(), 4, recipe, checkpoint=saved_in)
        again = train(Linear(), noise(), 4, recipe, checkpoint=saved_in)
        assert first.diverged == again.diverged != ""
        assert str(first.losses) == str(again.losses)  # as text: they hold NaN


class Stateful(Linear):
    """Dropout and running statistics, which a failed attempt must leave unchanged."""

    def __init__(self, most):
        super().__init__()
        self.most, self.drop, self.norm = most, nn.Dropout(0.3), nn.BatchNorm1d(6, momentum=None)

    def features(self, images):
        found = self.norm(self.drop(super().features(images)))
        if len(images) > self.most:
            raise torch.OutOfMemoryError("no")
        return found


def test_an_attempt_that_runs_out_of_memory_leaves_no_trace(monkeypatch):
    """The run equals one with a small micro-batch from the start, and the log has the size that BatchNorm used."""
    recipe = Recipe(steps=8, warmup_steps=2, base_lr=0.3)

    def ran(most):
        backbone = Stateful(most)
        torch.manual_seed(7)
        return backbone, train(backbone, batches(8), 4, recipe)

    backbone, halved = ran(2)
    monkeypatch.setattr(micro_batch, "on_cpu", lambda _size_px: 2)
    other, small = ran(8)
    assert halved.losses == small.losses
    assert torch.equal(backbone.norm.running_mean, other.norm.running_mean)
    assert backbone.norm.num_batches_tracked == other.norm.num_batches_tracked == 8 * 4
    assert (halved.micro_batch_size, halved.batch_norm_size) == (2, 2)
    assert train(Linear(), batches(8), 4, recipe).batch_norm_size == 0


def test_twenty_steps_of_a_vit_match_the_reference(tmp_path):
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
    """Return the reference's small ViT, with weights made by the reference's rule."""
    spec = np.load(GOLDEN / "vit_a.npz")["spec"]
    path = saved(npz_weights(spec, "a"), tmp_path)
    load_all()
    entry, module = BACKBONES.make(f"npz:{path}", {})
    return BuiltBackbone(module, "vit_a", entry.labels)
