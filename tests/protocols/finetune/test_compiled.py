"""Compiled fine-tuning: the same losses, one graph for all tasks, and nothing compiled that computes something else."""

import dataclasses
from functools import partial

import pytest
import timm
import torch
from timm.layers import StdConv2d
from torch import nn

from vitbench.core.errors import UsageError
from vitbench.protocols.finetune import compiled as module
from vitbench.protocols.finetune.loop import train
from vitbench.protocols.recipes import Recipe

OTHERS = ("resnetv2_50x1_bit", "efficientnet_b0")
# Small enough to be compiled in seconds.
SMALL = {
    "small BiT": lambda: timm.models.ResNetV2(
        layers=(1, 1, 1, 1), channels=(128, 256, 384, 512), num_classes=0, stem_type="fixed",
        conv_layer=partial(StdConv2d, eps=1e-8), preact=True,
    ),
    "small EfficientNet": lambda: timm.create_model("test_efficientnet", num_classes=0),
}  # fmt: skip
RECIPE = Recipe(steps=4, warmup_steps=0, base_lr=0.03, batch_size=8)


class Backbone(nn.Module):
    def __init__(self, name):
        super().__init__()
        torch.manual_seed(3)
        size = {"img_size": 32} if name.startswith("vit") else {}
        self.net = SMALL[name]() if name in SMALL else timm.create_model(name, num_classes=0, **size)
        self.feature_dim = self.net.num_features

    def features(self, images):
        return self.net(images)


def batches(classes, steps=RECIPE.steps):
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        yield (
            torch.randn(8, 3, 32, 32, generator=generator),
            torch.randint(classes, (8,), generator=generator),
        )


def losses(name, mode, monkeypatch, classes=5, recipe=RECIPE):
    monkeypatch.setenv("VITBENCH_COMPILE", mode)
    torch.manual_seed(7)
    return train(Backbone(name), batches(classes), classes, recipe)


@pytest.fixture
def counted(monkeypatch):
    """A backend that counts what it compiles, and runs it as it is."""
    graphs = []

    def backend(graph, _inputs):
        graphs.append(graph)
        return graph.forward

    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda fn, **how: compile_(fn, backend=backend, **how))
    torch._dynamo.reset()
    yield graphs
    torch._dynamo.reset()


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["vit_tiny_patch16_224", *(pytest.param(each, marks=pytest.mark.slow) for each in OTHERS)]
)
def test_one_graph_serves_tasks_with_other_numbers_of_classes(name, counted, monkeypatch):
    plain = [losses(name, "off", monkeypatch, classes).losses for classes in (3, 10, 37)]
    assert counted == []
    found = [losses(name, "on", monkeypatch, classes) for classes in (3, 10, 37)]
    assert len(counted) == 1
    for log, wanted in zip(found, plain, strict=True):
        assert log.losses == pytest.approx(wanted, rel=1e-6)
        assert any(note.startswith("compiled (torch ") for note in log.notes)


@pytest.mark.slow
def test_dropout_draws_the_same_numbers(counted, monkeypatch):
    recipe = dataclasses.replace(RECIPE, dropout=0.3)
    plain, found = (
        losses("vit_tiny_patch16_224", mode, monkeypatch, recipe=recipe) for mode in ("off", "on")
    )
    assert found.losses == pytest.approx(plain.losses, rel=1e-6)


def test_what_computes_something_else_is_not_used(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda fn, **_how: lambda images: 1.01 * fn(images))
    plain, found = (losses("vit_tiny_patch16_224", mode, monkeypatch) for mode in ("off", "on"))
    assert found.losses == plain.losses
    assert any("not compiled: its features differ by 0.01 of their norm" in note for note in found.notes), (
        found.notes
    )


def test_a_compiler_that_fails_is_not_used(monkeypatch):
    def refuse(_fn, **_how):
        raise RuntimeError("no compiler\nof ours")

    monkeypatch.setattr(torch, "compile", refuse)
    log = losses("vit_tiny_patch16_224", "on", monkeypatch)
    assert "not compiled: RuntimeError: no compiler" in log.notes
    assert log.losses == losses("vit_tiny_patch16_224", "off", monkeypatch).losses


@pytest.mark.slow
def test_batch_norms_statistics_are_not_changed_by_the_comparison(counted, monkeypatch):
    kept = []
    for mode in ("off", "on"):
        monkeypatch.setenv("VITBENCH_COMPILE", mode)
        backbone = Backbone("efficientnet_b0")
        train(backbone, batches(4), 4, RECIPE)
        kept.append([buffer.clone() for buffer in backbone.buffers()])
    for plain, found in zip(*kept, strict=True):
        assert torch.allclose(plain.float(), found.float(), rtol=1e-4, atol=1e-6)


def test_auto_compiles_long_jobs_on_a_gpu_only(monkeypatch):
    monkeypatch.setenv("VITBENCH_COMPILE", "auto")
    cuda, cpu = torch.device("cuda"), torch.device("cpu")
    vit = Backbone("vit_tiny_patch16_224")
    assert module.pays(vit, cuda, 2500 * 512, 384)
    assert not module.pays(vit, cuda, 2500 * 512, 32)
    assert not module.pays(vit, cuda, 100 * 512, 224)
    assert not module.pays(vit, cpu, 10**9, 384)
    assert not module.pays(Backbone("resnetv2_50x1_bit"), cuda, 10**9, 384)
    monkeypatch.setenv("VITBENCH_COMPILE", "off")
    assert not module.pays(vit, cuda, 10**9, 384)
    monkeypatch.setenv("VITBENCH_COMPILE", "maybe")
    with pytest.raises(UsageError, match="not auto, on or off"):
        module.pays(vit, cuda, 10**9, 384)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", *SMALL])
def test_inductor_gives_the_same_losses(name, monkeypatch):
    gentle = dataclasses.replace(RECIPE, base_lr=0.003)  # a large rate multiplies rounding from step to step
    plain, found = (losses(name, mode, monkeypatch, recipe=gentle) for mode in ("off", "on"))
    assert any(note.startswith("compiled (torch ") for note in found.notes), found.notes
    assert found.losses == pytest.approx(plain.losses, rel=1e-4)
