"""The cache of features on disk: what is damaged is computed again."""

from pathlib import Path

import pytest
import torch

import vitbench
from tests.making.damage import flip
from tests.making.records import essence
from vitbench.engine.feature_cache import FeatureCache


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
    store.put("k", torch.arange(12.0).reshape(3, 4), {})
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
    FeatureCache(tmp_path).put("k", torch.arange(12.0).reshape(3, 4), {})
    (path,) = tmp_path.glob("*.npy")
    path.write_bytes(path.read_bytes().replace(b"'<f4'", b"'<i4'"))
    assert FeatureCache(tmp_path).get("k") is None
