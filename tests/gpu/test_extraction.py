"""Extraction on a GPU: copies that nobody waits for bring the right numbers, and compiled networks the same ones."""

import numpy as np
import pytest
import timm
import torch
from torch import nn

from vitbench.api import InputSpec, Provenance
from vitbench.backbones.models.pixels import RawPixels
from vitbench.backbones.models.wrapper import BuiltBackbone
from vitbench.compute.batch_size import BatchSize
from vitbench.compute.environment import settle
from vitbench.compute.meter import Meter
from vitbench.data.arrays import array_split
from vitbench.data.decoded_cache import DecodedCache
from vitbench.data.preprocess import preset
from vitbench.engine.feature_cache import FeatureCache
from vitbench.engine.features import FeatureReader

settle(None)
DEVICE = "cuda"
BATCH, IMAGES = 16, 643


class Vit(nn.Module):
    input = InputSpec(32, (0.5,) * 3, (0.5,) * 3)
    provenance = Provenance(family="ViT", weights="untrained", pretrain_data="none")

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.net = timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=32)
        self.feature_dim = self.net.num_features

    def features(self, images):
        return self.net(images)


def split(images, size_px):
    """Made-up images, each of one level, so that a row in a wrong place shows."""
    levels = np.random.default_rng(images).integers(0, 256, (images, 1, 1, 3), dtype=np.uint8)
    return array_split(
        np.broadcast_to(levels, (images, size_px, size_px, 3)).copy(), np.arange(images) % 7, f"{images}"
    )


def reader(folder, device, module, data, notes=None, **changes):
    backbone = BuiltBackbone(module, "x", {}).to(device, memory_format=torch.channels_last).eval()
    return FeatureReader(
        backbone, preset("fewshot", module.input.size_px), device, "float32", FeatureCache(folder / device), {}, (data,),
        lambda _done, _total: None, Meter(device), note=(notes if notes is not None else []).append, **changes,
    )  # fmt: skip


@pytest.mark.parametrize("size_px", [20, 200], ids=["small images", "large images"])
def test_every_row_is_its_images_decoded_or_cached(size_px, tmp_path, monkeypatch):
    monkeypatch.setattr(BatchSize, "choose", lambda size, _forward: setattr(size, "size", BATCH) or BATCH)
    data = split(IMAGES, size_px)
    wanted = reader(tmp_path, "cpu", RawPixels(8), data).extract(RawPixels(8), data)
    for turn in range(6):  # the first decode, and write the cache
        decoded = DecodedCache(tmp_path / "decoded") if turn else None
        ours = reader(tmp_path, DEVICE, RawPixels(8), data, decoded=decoded)
        found = ours.extract(ours.backbone, data)
        assert (
            found - wanted
        ).abs().max() <= 1.01 / 127.5  # a level more or less, as `fewshot` cuts off fractions


def test_a_compiled_network_gives_the_same_features_for_splits_of_any_size(tmp_path, monkeypatch):
    for images in (300, 7):
        data, notes = split(images, 20), []
        found = {}
        for mode in ("off", "on"):
            monkeypatch.setenv("VITBENCH_COMPILE", mode)
            found[mode] = reader(tmp_path, DEVICE, Vit(), data, notes)(data)
        assert (found["on"] - found["off"]).norm() / found["off"].norm() < 1e-4
        assert [note[:19] for note in notes] == ["features: compiled "] * len(notes) != []
