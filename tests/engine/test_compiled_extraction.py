"""Compiled extraction: the same features, one graph for all tasks of a backbone, keys of their own, and a note of it."""

from functools import partial

import numpy as np
import pytest
import timm
import torch
from timm.layers import StdConv2d
from torch import nn

from vitbench.api import InputSpec, Provenance
from vitbench.backbones.models.wrapper import BuiltBackbone
from vitbench.compute.meter import Meter
from vitbench.data.arrays import array_split
from vitbench.data.preprocess import preset
from vitbench.engine import forward_pass
from vitbench.engine.feature_cache import FeatureCache
from vitbench.engine.features import FeatureReader
from vitbench.engine.forward_pass import ForwardPass

SIZE_PX = 32
NETWORKS = {
    "ViT": lambda: timm.create_model("test_vit", num_classes=0, img_size=SIZE_PX),
    "BiT": lambda: timm.models.ResNetV2(
        layers=(1, 1, 1, 1), channels=(128, 256, 384, 512), num_classes=0, stem_type="fixed",
        conv_layer=partial(StdConv2d, eps=1e-8), preact=True,
    ),
    "EfficientNet": lambda: timm.create_model("test_efficientnet", num_classes=0),
}  # fmt: skip


class Network(nn.Module):
    """A small network."""

    input = InputSpec(SIZE_PX, (0.5,) * 3, (0.5,) * 3)
    provenance = Provenance(family="ViT", weights="untrained", pretrain_data="none")

    def __init__(self, name="ViT"):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(3)
            self.net = NETWORKS[name]()
        self.feature_dim = self.net.num_features

    def features(self, images):
        return self.net(images)


class Reads:
    """Readers of one cache by one backbone, and the notes of their records."""

    def __init__(self, folder, name="ViT"):
        self.backbone = BuiltBackbone(Network(name), name, {}).eval()
        self.folder, self.notes, self.verdicts = folder, {}, forward_pass.Verdicts()

    def __call__(self, split, mode, monkeypatch, **changes):
        monkeypatch.setenv("VITBENCH_COMPILE", mode)
        self.meter = Meter("cpu")
        reader = FeatureReader(
            self.backbone, preset("squash", SIZE_PX), "cpu", "float32", FeatureCache(self.folder), {"weights": "w"},
            (split,), lambda _done, _total: None, self.meter,
            **{"note": lambda text: self.notes.setdefault(text, None), "verdicts": self.verdicts, **changes},
        )  # fmt: skip
        return reader(split)


def task(images, classes=3, seed=0):
    """A split of made-up images."""
    pixels = np.random.default_rng(seed).integers(0, 256, (images, 6, 6, 3), dtype=np.uint8)
    return array_split(pixels, np.arange(images) % classes, f"{images} {seed}")


@pytest.fixture
def graphs(monkeypatch):
    """The batch sizes of graphs that have been compiled, by a backend that runs them as they are."""
    found = []

    def backend(graph, inputs):
        found.extend(len(each) for each in inputs if tuple(each.shape)[1:] == (3, SIZE_PX, SIZE_PX))
        return graph.forward

    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda fn, **how: compile_(fn, backend=backend, **how))
    torch._dynamo.reset()
    yield found
    torch._dynamo.reset()


def test_one_graph_serves_tasks_of_other_sizes_and_classes_and_copies_of_the_network(
    graphs, tmp_path, monkeypatch
):
    tasks = [task(150, 3, 1), task(7, 5, 2), task(64, 10, 3)]
    plain = [Reads(tmp_path / "plain")(each, "off", monkeypatch) for each in tasks]
    assert graphs == []
    reads = Reads(tmp_path)
    found = [reads(each, "on", monkeypatch) for each in tasks]
    found.append(Reads(tmp_path / "copy")(tasks[0], "on", monkeypatch))  # as a worker that builds it anew
    assert graphs == [64]
    for one, other in zip(found, [*plain, plain[0]], strict=True):
        assert torch.allclose(one, other, rtol=1e-5, atol=1e-5)


def test_features_of_a_compiled_network_have_a_key_of_their_own(graphs, tmp_path, monkeypatch):
    reads, data = Reads(tmp_path), task(70)
    (plain,) = _keys_of(reads, data, "off", monkeypatch)
    assert reads.notes == {}
    (compiled,) = _keys_of(reads, data, "on", monkeypatch)
    assert compiled != plain
    assert {file.stem for file in tmp_path.glob("*.npy")} == {plain, compiled}
    (note,) = reads.notes
    assert note.startswith("features: compiled (torch ")
    other = Reads(tmp_path)  # another process finds both, and its record says what it was given
    assert [*_keys_of(other, data, "on", monkeypatch), *_keys_of(other, data, "off", monkeypatch)] == [
        compiled,
        plain,
    ]
    assert list(other.notes) == [note]
    assert len(graphs) == 1


def _keys_of(reads, data, mode, monkeypatch):
    reads(data, mode, monkeypatch)
    for extraction in reads.meter.extractions.values():
        assert bool(extraction.compiled) == (mode == "on")
    return list(reads.meter.extractions)


def test_the_key_of_features_that_are_not_compiled_is_what_it_was(tmp_path, monkeypatch):
    """Caches of earlier versions are read: this is the key that commit 45dd126 gave."""
    reads = Reads(tmp_path)
    assert _keys_of(reads, task(3), "off", monkeypatch) == ["49432651bd8100811cf05021d7eeb7ea"]


def test_what_computes_something_else_is_not_used(tmp_path, monkeypatch):
    tries = []

    def spoilt(function, **_how):
        tries.append(function)
        return lambda images: 1.01 * function(images)

    monkeypatch.setattr(torch, "compile", spoilt)
    reads, data = Reads(tmp_path), [task(70), task(20)]
    found = [reads(each, "on", monkeypatch) for each in data]
    plain = [Reads(tmp_path / "plain")(each, "off", monkeypatch) for each in data]
    assert all(torch.equal(one, other) for one, other in zip(found, plain, strict=True))
    assert list(reads.notes) == ["features: not compiled: its features differ by 0.01 of their norm"]
    assert len(tries) == 1


def test_a_compiler_that_fails_is_not_used(tmp_path, monkeypatch):
    def refuse(_function, **_how):
        raise RuntimeError("no compiler\nof ours")

    monkeypatch.setattr(torch, "compile", refuse)
    reads = Reads(tmp_path)
    found = reads(task(9), "on", monkeypatch)
    assert torch.equal(found, Reads(tmp_path / "plain")(task(9), "off", monkeypatch))
    assert list(reads.notes) == ["features: not compiled: RuntimeError: no compiler"]


def test_when_memory_runs_out_smaller_batches_are_compiled_and_padded_too(graphs, tmp_path, monkeypatch):
    plain = Reads(tmp_path / "plain")(task(150), "off", monkeypatch)
    run, full = ForwardPass._by, []

    def tight(self, features, images):
        if len(images) > 32 and full:
            raise torch.OutOfMemoryError("none left")
        full.append(len(images))
        return run(self, features, images)

    reads = Reads(tmp_path)
    monkeypatch.setattr(ForwardPass, "_by", tight)
    monkeypatch.setattr(ForwardPass, "_difference", lambda *_: 0.0)
    full.append(0)
    assert torch.allclose(reads(task(150), "on", monkeypatch), plain, rtol=1e-5, atol=1e-5)
    assert graphs == [32]
    assert set(full) == {0, 32}


def test_auto_compiles_long_passes_of_transformers_on_a_gpu_only(monkeypatch):
    monkeypatch.setenv("VITBENCH_COMPILE", "auto")
    on_gpu, on_cpu = (ForwardPass(Network(), device, "bfloat16") for device in ("cuda:1", "cpu"))
    flops = 35_130_000_000  # of ViT-B/16 at 224 px
    assert on_gpu.compiles(1_281_167, lambda: flops)
    assert not on_gpu.compiles(73_728, lambda: flops)
    assert on_gpu.compiles(150_000, lambda: 382_130_000_000)  # ViT-L/16 at 384 px
    assert not on_gpu.compiles(1_281_167, lambda: None)
    assert not on_cpu.compiles(10**9, lambda: flops)
    assert not ForwardPass(Network("BiT"), "cuda", "bfloat16").compiles(10**9, lambda: flops)
    monkeypatch.setenv("VITBENCH_COMPILE", "on")
    assert on_cpu.compiles(1, lambda: None)
    assert not on_cpu.compiles(0, lambda: None)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_inductor_gives_the_same_features(name, tmp_path, monkeypatch):
    data = task(70)
    torch._dynamo.reset()
    reads = Reads(tmp_path, name)
    found = reads(data, "on", monkeypatch)
    plain = Reads(tmp_path / "plain", name)(data, "off", monkeypatch)
    assert [note[:26] for note in reads.notes] == ["features: compiled (torch "], reads.notes
    assert (found - plain).norm() / plain.norm() < 1e-4
