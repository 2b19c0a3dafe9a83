import numpy as np
import pytest
import torch

from vitbench.backbones.models.pixels import RawPixels
from vitbench.backbones.models.wrapper import BuiltBackbone
from vitbench.compute.meter import Meter
from vitbench.data.arrays import array_split
from vitbench.data.preprocess import preset
from vitbench.engine.feature_cache import FeatureCache
from vitbench.engine.features import FeatureReader

RNG = np.random.default_rng(0)


class Counting(RawPixels):
    """Raw pixels that count the images they process."""

    def __init__(self, size_px):
        super().__init__(size_px)
        self.seen = 0

    def features(self, images):
        self.seen += len(images)
        return super().features(images)


@pytest.fixture
def split():
    return array_split(RNG.integers(0, 256, (150, 6, 6, 3), dtype=np.uint8), np.arange(150) % 3, "x")


def reader(folder, split, module, **changes):
    backbone = BuiltBackbone(module, "x", {})
    arguments = {
        "backbone": backbone, "preprocess": preset("squash", 4), "device": "cpu", "dtype": "float32",
        "store": FeatureCache(folder), "identity": {"weights": "w"}, "pools": (split,), "report": lambda _done, _total: None,
        "meter": Meter("cpu"),
    }  # fmt: skip
    return FeatureReader(**{**arguments, **changes})


def test_draws_of_a_pool_share_one_extraction(tmp_path, split):
    module = Counting(4)
    read = reader(tmp_path, split, module)
    everything = read(split)
    drawn = np.array([7, 149, 3, 3])
    assert torch.equal(read(split.take(drawn)), everything[torch.from_numpy(drawn)])
    assert module.seen == 150


def test_another_process_reads_bit_equal_features(tmp_path, split):
    first = reader(tmp_path, split, RawPixels(4))(split)
    module = Counting(4)
    assert torch.equal(reader(tmp_path, split, module)(split), first)
    assert module.seen == 0


@pytest.mark.parametrize("change", [{"identity": {"weights": "other"}}])
def test_other_weights_are_other_features(tmp_path, split, change):
    reader(tmp_path, split, RawPixels(4))(split)
    module = Counting(4)
    reader(tmp_path, split, module, **change)(split)
    assert module.seen == 150


@pytest.mark.parametrize(
    "damage",
    [lambda d: d[:-9], lambda d: d[:200] + bytes([d[200] ^ 1]) + d[201:]],
    ids=["truncated", "flipped"],
)
def test_damaged_features_are_computed_again(tmp_path, split, damage):
    first = reader(tmp_path, split, RawPixels(4))(split)
    file = next(tmp_path.glob("*.npy"))
    file.write_bytes(damage(file.read_bytes()))
    module = Counting(4)
    assert torch.equal(reader(tmp_path, split, module)(split), first)
    assert module.seen == 150


@pytest.mark.parametrize("order", ["interleaved", "shuffled", "contiguous"])
def test_splits_over_one_source_never_get_each_others_rows(tmp_path, split, order):
    indices = {"interleaved": np.arange(150), "shuffled": RNG.permutation(150), "contiguous": np.arange(150)}[
        order
    ]
    first, second = (indices[::2], indices[1::2]) if order != "contiguous" else (indices[:75], indices[75:])
    train, val = (split.take(part) for part in (first, second))
    read = reader(tmp_path, split, RawPixels(4), pools=(train, val))
    everything = reader(tmp_path / "all", split, RawPixels(4))(split)
    for part in (train, val, val.take(np.array([5, 2]))):
        assert torch.equal(read(part), everything[torch.from_numpy(part.indices)])


def test_a_pool_that_is_too_large_is_not_extracted_for_a_few(tmp_path, split, monkeypatch):
    module = Counting(4)
    monkeypatch.setattr("vitbench.data.budgets.POOL_ALWAYS", 100)
    read = reader(tmp_path, split, module)
    drawn = np.array([90, 2, 40])
    wanted = reader(tmp_path / "b", split, RawPixels(4))(split)[torch.from_numpy(drawn)]
    assert torch.equal(read(split.take(drawn)), wanted)
    assert module.seen == 3


def test_features_are_those_of_the_module_on_exact_pixels(tmp_path, split):
    images = torch.from_numpy(split.source.images).permute(0, 3, 1, 2).float()
    wanted = torch.nn.functional.interpolate(images, (4, 4), mode="bilinear")
    wanted = ((wanted / 255 - 0.5) / 0.5).flatten(1)
    assert (reader(tmp_path, split, RawPixels(4))(split) - wanted).abs().max() < 1e-5


def test_float16_is_half_as_large_and_the_same_cached_or_not(tmp_path, split):
    first = reader(tmp_path, split, RawPixels(4), feature_dtype="float16")(split)
    again = reader(tmp_path, split, Counting(4), feature_dtype="float16")
    exact = reader(tmp_path / "exact", split, RawPixels(4))(split)
    assert torch.equal(again(split), first)
    assert first.dtype == torch.float32
    assert 0 < (first - exact).abs().max() < 1e-3
    small, large = (
        next(folder.glob("*.npy")).stat().st_size - 128 for folder in (tmp_path, tmp_path / "exact")
    )
    assert 2 * small == large


def test_the_cache_keeps_its_limit_and_changed_features_do_not_reach_it(tmp_path, split):
    one = 150 * 48 * 4 + 128
    store = FeatureCache(tmp_path, limit_bytes=2 * one, most_held=0)
    for weights in "abc":
        reader(tmp_path, split, RawPixels(4), store=store, identity={"weights": weights})(split)
    assert sum(file.stat().st_size for file in tmp_path.glob("*.npy")) == 2 * one
    module = Counting(4)
    features = reader(tmp_path, split, module, store=store, identity={"weights": "c"})(split)
    kept = features.clone()
    features.zero_()
    assert torch.equal(reader(tmp_path, split, module, store=store, identity={"weights": "c"})(split), kept)
    assert module.seen == 0
    nothing = FeatureCache(tmp_path / "none", limit_bytes=0)
    assert torch.equal(reader(tmp_path, split, module, store=nothing)(split), kept)
    assert not list((tmp_path / "none").glob("*.npy"))
