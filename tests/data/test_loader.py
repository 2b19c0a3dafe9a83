"""Batches: in order, and bit-equal whether decoded or cached; the cache's limit and its handling of damage."""

import threading

import numpy as np
import pytest
import torch

from vitbench.api import ImageSource, Split
from vitbench.data import loader, resize
from vitbench.data.decode import BadImageError
from vitbench.data.decoded_cache import DecodedCache
from vitbench.data.loader import batches
from vitbench.data.preprocess import apply, preset

RNG = np.random.default_rng(5)


class Images(ImageSource):
    """A source that counts the images it decodes."""

    def __init__(self, sizes):
        self.images = [RNG.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
        self.decoded = 0
        self.bad = set()

    def __len__(self):
        return len(self.images)

    fingerprint = "x"

    def read(self, indices, *, fast_dct=False):
        self.decoded += len(indices)
        if broken := self.bad & set(indices):
            raise BadImageError({str(i): "truncated" for i in broken}, len(indices))
        return [self.images[i] for i in indices]

    def name(self, index):
        return str(index)


SMALL = [(20, 20)] * 50
LARGE = [(int(h), int(w)) for h, w in RNG.integers(130, 200, (50, 2))]


def split(sizes):
    return Split(Images(sizes), RNG.permutation(50)[:41], np.zeros(41, np.int64))


def all_of(part, how, store=None, size=8):
    return torch.cat(list(batches(part, how, "cpu", size, store)))


@pytest.mark.parametrize("name", ["squash", "fewshot", "centre_crop"])
@pytest.mark.parametrize("sizes", [SMALL, LARGE], ids=["small", "large"])
def test_cached_and_decoded_batches_are_bit_equal(tmp_path, name, sizes):
    part, how = split(sizes), preset(name, 16)
    wanted = torch.cat([apply([part.source.images[i]], how) for i in part.indices])
    store = DecodedCache(tmp_path)
    found = [all_of(part, how), all_of(part, how, store), all_of(part, how, store)]
    assert all(torch.equal(one, found[0]) for one in found)
    assert (found[0].float() - wanted.float()).abs().max() <= (1 if how.rounding != "none" else 1e-3)
    kept = sizes is SMALL or how.rounding != "none"
    assert part.source.decoded == (2 if kept else 3) * 41
    assert len(list(tmp_path.glob("*.bin"))) == kept
    assert not list(tmp_path.glob("*.tmp"))


def test_small_images_are_cached_once_for_all_sizes(tmp_path):
    part, store = split(SMALL), DecodedCache(tmp_path)
    all_of(part, preset("squash", 16), store)
    assert all_of(part, preset("squash", 24), store).shape == (41, 3, 24, 24)
    assert part.source.decoded == 41


def test_images_of_a_damaged_cache_are_decoded_again(tmp_path):
    part, how = split(SMALL), preset("squash", 16)
    wanted = all_of(part, how, DecodedCache(tmp_path))
    (file,) = tmp_path.glob("*.bin")
    data = bytearray(file.read_bytes())
    data[100] ^= 1
    file.write_bytes(data)
    assert torch.equal(all_of(part, how, DecodedCache(tmp_path)), wanted)
    file.write_bytes(data[:-1])
    assert torch.equal(all_of(part, how, DecodedCache(tmp_path)), wanted)
    assert part.source.decoded == 3 * 41


def test_the_cache_keeps_to_its_limit_and_drops_the_oldest(tmp_path):
    one = 41 * 20 * 20 * 3
    store = DecodedCache(tmp_path, limit_bytes=2 * one)
    parts = [split(SMALL) for _ in range(3)]
    for i, part in enumerate(parts):
        part.source.fingerprint = str(i)
        all_of(part, preset("squash", 16), store)
    assert sum(file.stat().st_size for file in tmp_path.glob("*.bin")) == 2 * one
    all_of(parts[0], preset("squash", 16), store)
    assert parts[0].source.decoded == 2 * 41
    nothing = DecodedCache(tmp_path / "none", limit_bytes=0)
    all_of(parts[0], preset("squash", 16), nothing)
    assert not list((tmp_path / "none").glob("*.bin"))


def test_an_interrupted_pass_caches_nothing(tmp_path):
    part = split(SMALL)
    passing = batches(part, preset("squash", 16), "cpu", 8, DecodedCache(tmp_path))
    next(passing)
    passing.close()
    assert list(tmp_path.iterdir()) == []


def test_all_bad_images_are_named_and_nothing_is_cached(tmp_path):
    part = split(SMALL)
    part.source.bad = set(part.indices[[3, 30]].tolist())
    with pytest.raises(BadImageError, match="2 of 41"):
        all_of(part, preset("squash", 16), DecodedCache(tmp_path))
    assert not list(tmp_path.glob("*.bin"))


class Crowd(Images):
    """A source whose readers wait for each other, until `wanted` have been there at once."""

    wanted = 12

    def __init__(self, sizes):
        super().__init__(sizes)
        self.here = self.most = 0
        self.change = threading.Condition()

    def read(self, indices, *, fast_dct=False):
        with self.change:
            self.here += 1
            self.most = max(self.most, self.here)
            self.change.notify_all()
            self.change.wait_for(lambda: self.most >= self.wanted, timeout=20)
            self.here -= 1
        return super().read(indices, fast_dct=fast_dct)


@pytest.mark.parametrize("size", [16, 64, 512])
def test_on_16_cores_12_threads_read_at_once_whatever_the_batch_size(size, monkeypatch):
    """A batch of 16 is one piece, which one thread reads: others read the next batches meanwhile."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 16)
    monkeypatch.setattr(loader.os, "cpu_count", lambda: 16)
    source = Crowd(SMALL)
    part = Split(source, np.arange(700) % 50, np.zeros(700, np.int64))
    assert len(all_of(part, preset("squash", 16), size=size)) == 700
    assert source.most >= Crowd.wanted


def test_images_of_one_size_are_resized_together(tmp_path, monkeypatch):
    """Decoded or cached."""
    calls, plain = [], resize.KERNELS["tf2_bilinear"]

    def counted(images, *arguments, **options):
        calls.append(len(images))
        return plain(images, *arguments, **options)

    monkeypatch.setitem(resize.KERNELS, "tf2_bilinear", counted)
    part, store = split(SMALL), DecodedCache(tmp_path)
    for _ in range(2):
        calls.clear()
        all_of(part, preset("squash", 16), store, size=20)
        assert calls == [20, 20, 1]
