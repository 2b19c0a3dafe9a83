"""Cached arrays: what is damaged, of an older version, or cut off is never returned, and a full disk fails no job."""

import errno
import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.making.features import put
from vitbench.data.decoded_cache import DecodedCache
from vitbench.data.disk_cache import ABANDONED_AFTER_S, crc32
from vitbench.engine.feature_cache import FeatureCache

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 4, 5, 3), dtype=np.uint8)
FEATURES = torch.arange(12.0).reshape(3, 4)


def write(cache, images=IMAGES):
    writer = cache.writer("k", len(images), images[:8])
    for start in range(0, len(images), 8):
        assert writer.add(images[start : start + 8])
    writer.finish()


def test_sidecars_of_earlier_versions_are_read(tmp_path):
    (tmp_path / "k.bin").write_bytes(IMAGES.tobytes())
    facts = {"format": 1, "shape": IMAGES.shape, "crc32": crc32(IMAGES)}
    (tmp_path / "k.json").write_text(json.dumps(facts), encoding="utf-8")
    assert np.array_equal(DecodedCache(tmp_path).open("k"), IMAGES)
    np.save(tmp_path / "f.npy", FEATURES.numpy())
    facts = {"crc32": crc32(FEATURES.numpy()), "shape": [3, 4], "dtype": "float32", "data_set": "x"}
    (tmp_path / "f.json").write_text(json.dumps(facts), encoding="utf-8")
    assert torch.equal(FeatureCache(tmp_path).get("f"), FEATURES)


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"dtype": "int8"},
        {"dtype": "|O"},
        {"shape": [20, 60, 1]},
        {"shape": None},
        {"crc32": 7},
    ],
)
def test_a_sidecar_that_does_not_fit_its_array_is_refused(tmp_path, change):
    write(DecodedCache(tmp_path))
    put(FeatureCache(tmp_path), "f", FEATURES)
    for name in ("k", "f"):
        path = tmp_path / f"{name}.json"
        facts = json.loads(path.read_text(encoding="utf-8")) | change
        path.write_text(json.dumps(facts), encoding="utf-8")
    if "shape" not in change or change["shape"] is None:
        assert DecodedCache(tmp_path).open("k") is None
    assert FeatureCache(tmp_path).get("f") is None


def test_a_feature_file_can_be_read_by_numpy(tmp_path):
    put(FeatureCache(tmp_path), "f", FEATURES)
    assert np.array_equal(np.load(tmp_path / "f.npy"), FEATURES.numpy())


@pytest.mark.parametrize("room", [0, 130, 10**6])
def test_a_full_disk_costs_the_cache_and_not_the_job(tmp_path, monkeypatch, room):
    opener = Path.open

    class Full:
        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def write(self, data):
            nonlocal room
            room -= len(memoryview(data).cast("B"))
            if room < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return self.file.write(data)

    monkeypatch.setattr(
        Path,
        "open",
        lambda path, mode="r", **how: Full(opener(path, mode)) if mode == "ab" else opener(path, mode, **how),
    )
    assert torch.equal(put(FeatureCache(tmp_path), "f", FEATURES), FEATURES)
    found = FeatureCache(tmp_path).get("f")
    assert found is None if room < 0 else torch.equal(found, FEATURES)
    assert not list(tmp_path.glob("*.tmp"))


def test_only_old_files_that_no_sidecar_names_are_swept(tmp_path):
    for name in ("old.tmp", "old.npy", "new.tmp", "new.npy", "old.txt"):
        (tmp_path / name).write_bytes(b"")
        if name.startswith("old"):
            os.utime(tmp_path / name, (0, time.time() - ABANDONED_AFTER_S - 60))
    put(FeatureCache(tmp_path), "f", FEATURES)
    assert {path.name for path in tmp_path.iterdir()} == {"new.tmp", "new.npy", "old.txt", "f.npy", "f.json"}


def test_batches_of_another_shape_or_kind_are_not_cached(tmp_path):
    for odd in (IMAGES[:, :3], IMAGES.astype(np.int16)):
        writer = DecodedCache(tmp_path).writer("k", 40, IMAGES)
        assert writer.add(IMAGES)
        assert not writer.add(odd)
        assert np.array_equal(writer.rows(), IMAGES)
        writer.abandon()
    assert not list(tmp_path.iterdir())
