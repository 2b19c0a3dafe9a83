"""The cache of features on disk: what is damaged is computed again."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import vitbench
from tests.making.damage import flip
from tests.making.features import put
from tests.making.records import essence
from vitbench.engine.feature_cache import FeatureCache

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("damage", [flip, lambda path: path.write_bytes(path.read_bytes()[:-5]), Path.unlink])
def test_damaged_features_are_computed_again(tiny, tmp_path, monkeypatch, damage):
    monkeypatch.setenv("VITBENCH_CACHE", str(tmp_path / "cache"))
    first = vitbench.run(tiny, tmp_path / "one")
    arrays = list((tmp_path / "cache" / "features").glob("*.npy"))
    assert arrays
    for path in arrays:
        damage(path)
    again = vitbench.run(tiny, tmp_path / "two")
    assert essence(first) == essence(again)
    assert sum(record.cost.images_forward for record in again) == sum(r.cost.images_forward for r in first)


@pytest.mark.parametrize("place", [0, 9, 25, 40, 70])
def test_features_whose_header_is_damaged_are_computed_again(tmp_path, place):
    store = FeatureCache(tmp_path)
    put(store, "k", torch.arange(12.0).reshape(3, 4))
    assert FeatureCache(tmp_path).get("k") is not None
    (path,) = tmp_path.glob("*.npy")
    for bit in range(8):
        data = bytearray(path.read_bytes())
        data[place] ^= 1 << bit
        path.write_bytes(bytes(data))
        found = FeatureCache(tmp_path).get("k")
        assert found is None or torch.equal(found, torch.arange(12.0).reshape(3, 4))
        data[place] ^= 1 << bit
        path.write_bytes(bytes(data))
    path.write_bytes(b"")
    assert FeatureCache(tmp_path).get("k") is None


def test_features_of_another_kind_of_number_are_computed_again(tmp_path):
    put(FeatureCache(tmp_path), "k", torch.arange(12.0).reshape(3, 4))
    (path,) = tmp_path.glob("*.npy")
    path.write_bytes(path.read_bytes().replace(b"'<f4'", b"'<i4'"))
    assert FeatureCache(tmp_path).get("k") is None


@pytest.fixture
def large(monkeypatch):
    """All features count as large."""
    monkeypatch.setattr("vitbench.engine.feature_cache.HELD_BYTES", 0)


def test_large_features_are_in_their_file_alone(tmp_path, large):
    wanted = torch.randn(11, 4)
    cache = FeatureCache(tmp_path)
    incoming = cache.incoming("k", 11)
    for start in range(0, 11, 3):
        incoming.add(wanted[start : start + 3])
        assert incoming.batches == []
    found = cache.put(incoming, {})
    assert torch.equal(found, wanted)
    assert torch.equal(FeatureCache(tmp_path).get("k"), wanted)
    own = cache.own("k", found, slice(2, 7))
    assert torch.equal(own, wanted[2:7])
    own.zero_()
    assert torch.equal(found, wanted)


def test_what_a_full_disk_does_not_take_is_held(tmp_path, large, monkeypatch):
    wanted = torch.randn(11, 4)
    cache = FeatureCache(tmp_path)
    incoming = cache.incoming("k", 11)
    for start in range(0, 11, 3):
        if start == 6:
            monkeypatch.setattr("vitbench.data.disk_cache.ArrayWriter.append", lambda *_: False)
        incoming.add(wanted[start : start + 3])
    found = cache.put(incoming, {})
    assert torch.equal(found, wanted)
    assert torch.equal(cache.own("k", found, slice(1, 9)), wanted[1:9])
    assert FeatureCache(tmp_path).get("k") is None
    assert not list(tmp_path.iterdir())


def test_an_extraction_that_fails_leaves_no_file(tmp_path, large):
    incoming = FeatureCache(tmp_path).incoming("k", 11)
    incoming.add(torch.randn(3, 4))
    incoming.abandon()
    assert not list(tmp_path.iterdir())


MEMORY = """
import sys, torch
from pathlib import Path
from tests.engine.test_features import reader
from tests.making.memory import most_mib
from vitbench.api import ImageSource, InputSpec, Split
from vitbench.engine import feature_cache
import numpy as np
feature_cache.HELD_BYTES = int(sys.argv[2])

class Grey(ImageSource):
    def __len__(self): return 20_000
    fingerprint = "grey"
    def name(self, index): return str(index)
    def read(self, indices, *, fast_dct=False):
        return [np.full((8, 8, 3), index % 256, np.uint8) for index in indices]

class Wide(torch.nn.Module):
    input, feature_dim = InputSpec(8, (0.5,) * 3, (0.5,) * 3), 4096
    def features(self, images):
        return images.mean((1, 2, 3))[:, None].expand(-1, 4096) + torch.arange(4096.0)

split = Split(Grey(), np.arange(20_000), np.zeros(20_000, np.int64))
reader(Path(sys.argv[1]) / "small", split.take(np.arange(300)), Wide())(split.take(np.arange(300)))
with most_mib() as most:
    found = reader(Path(sys.argv[1]) / "large", split, Wide())(split)
assert found.shape == (20_000, 4096) and found[256 + 7, 5] == found[7, 5] and found[7, 0] != found[8, 0]
print(most())
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_extracting_large_features_takes_no_memory_of_their_size(tmp_path):
    """328 MB of features."""

    def taken_mib(bound):
        command = [sys.executable, "-c", MEMORY, str(tmp_path / str(bound)), str(bound)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=400, cwd=ROOT)
        return float(done.stdout.split()[-1])

    assert taken_mib(0) < 150
    assert taken_mib(2**40) > 600
