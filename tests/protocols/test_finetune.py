import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from vitbench.protocols.finetune import train
from vitbench.protocols.recipes import Recipe

SCHEDULES = json.loads((Path(__file__).parents[1] / "golden" / "lr_schedules.json").read_text())


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
