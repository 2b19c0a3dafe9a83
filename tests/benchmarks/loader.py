"""How fast images become batches, as ratios to peers in the same run: `python tests/benchmarks/loader.py [-n 1500]`.

(a) libjpeg-turbo decode and the same resize on as many threads, nothing else; (b) a torch DataLoader with two workers
over the same prepared files; (c) tf.data, where TensorFlow is installed. Medians of several interleaved rounds.
Targets: 0.9 of (a), 1.2 of (b). And decoding alone to libjpeg-turbo's: 0.95.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import simplejpeg
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.benchmarks.photographs import photographs
from tests.making import miniatures
from vitbench.api import Split
from vitbench.compute.environment import settle
from vitbench.data.decode import decode
from vitbench.data.decoded_cache import DecodedCache
from vitbench.data.loader import FEW, alone, batches
from vitbench.data.preprocess import Preprocess, apply, preset
from vitbench.data.tfds.dataset import DATA_SETS, Prepared, _read_info
from vitbench.data.tfds.source import RecordSource
from vitbench.engine.components import load_all

BATCH = 64
THREADS = 2


class Items(torch.utils.data.Dataset):
    """The same images, item by item."""

    def __init__(self, copy: Prepared, how: Preprocess, n: int) -> None:
        self.copy, self.how, self.n = copy, how, n

    @cached_property
    def source(self) -> RecordSource:
        """Opened in the worker."""
        load_all()
        return RecordSource(DATA_SETS["imagenet2012"], self.copy, "train")

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> torch.Tensor:
        return apply(self.source.read([index], fast_dct=self.how.dct == "fast"), self.how)[0]


def bare(encoded: list[bytes], how: Preprocess) -> int:
    """Decode and resize, on threads."""

    def load(start: int) -> int:
        images = [
            simplejpeg.decode_jpeg(data, "RGB", fastdct=True) for data in encoded[start : start + BATCH]
        ]
        return len(apply(images, how))

    with ThreadPoolExecutor(THREADS, initializer=alone) as pool:
        return sum(pool.map(load, range(0, len(encoded), BATCH)))


def decoding(encoded: list[bytes], *, is_ours: bool) -> float:
    """Images a second of processor time on one thread, from bytes in memory to pixels, kept 16 at a time as the loader does."""

    def one(data: bytes) -> np.ndarray:
        if is_ours:
            return decode(data, exif_rotate=False, fast_dct=True)
        return simplejpeg.decode_jpeg(data, "RGB", fastdct=True)

    start = time.process_time()
    for first in range(0, len(encoded), FEW):
        images = [one(data) for data in encoded[first : first + FEW]]
        assert len(images)
    return len(encoded) / (time.process_time() - start)


def ours(split: Split, how: Preprocess, store: DecodedCache | None = None) -> int:
    """vitbench's loader."""
    return sum(len(batch) for batch in batches(split, how, "cpu", BATCH, store))


def workers(copy: Prepared, how: Preprocess, n: int) -> int:
    """torch's DataLoader; spawned, as array_record crashes under fork. The start of its workers is not counted."""
    loader = torch.utils.data.DataLoader(
        Items(copy, how, n), BATCH, num_workers=2, multiprocessing_context="spawn", persistent_workers=True
    )
    for _ in loader:
        pass
    workers.start = time.perf_counter()  # type: ignore[attr-defined]
    return sum(len(batch) for batch in loader)


def tf_data(copy: Prepared) -> int:
    """tf.data over tfrecord files, decode and resize."""
    import tensorflow as tf

    def parse(record: object) -> object:
        example = tf.io.parse_single_example(record, {"image": tf.io.FixedLenFeature([], tf.string)})
        return tf.image.resize(tf.io.decode_jpeg(example["image"], channels=3), (224, 224))

    data = (
        tf.data.TFRecordDataset([str(f) for f in copy.path.glob("*train*")])
        .map(parse, num_parallel_calls=THREADS)
        .batch(BATCH)
        .prefetch(4)
    )
    return sum(len(batch) for batch in data)


def rate(run: object, *arguments: object) -> float:
    """Images a second."""
    start = time.perf_counter()
    n = run(*arguments)  # type: ignore[operator]
    return n / (time.perf_counter() - max(start, getattr(run, "start", start)))


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("-n", type=int, default=1500)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    load_all()
    settle(THREADS)
    encoded = photographs(options.n)
    how = preset("squash", 224)
    with tempfile.TemporaryDirectory() as folder:
        remaining = iter(encoded * 2)
        miniatures.encoded_image = lambda *_: next(remaining)
        miniatures.SPLITS["imagenet2012"] = ("train",)
        path = miniatures.prepare("imagenet2012", folder, n=options.n, shards=2)
        rows = {"array_record": Prepared(path, (5, 1, 0), _read_info(path / "dataset_info.json"))}
        other = miniatures.to_tfrecord(path, Path(folder) / "tfr" / "5.1.0")
        rows["tfrecord"] = Prepared(other, (5, 1, 0), _read_info(other / "dataset_info.json"))
        sources = {
            name: RecordSource(DATA_SETS["imagenet2012"], copy, "train") for name, copy in rows.items()
        }
        splits = {
            name: Split(s, np.arange(len(s)), np.zeros(len(s), np.int64)) for name, s in sources.items()
        }
        rates: dict[str, list[float]] = {}

        def note(name: str, value: float) -> None:
            rates.setdefault(name, []).append(value)

        for _ in range(options.rounds):
            note("bare decode + resize", rate(bare, encoded, how))
            for name, split in splits.items():
                note(f"vitbench, {name}", rate(ours, split, how))
            note("DataLoader, 2 workers", rate(workers, rows["tfrecord"], how, options.n))
            note("libjpeg-turbo, one thread", decoding(encoded, is_ours=False))
            note("our decode, one thread", decoding(encoded, is_ours=True))
            if find_spec("tensorflow"):
                note("tf.data", rate(tf_data, rows["tfrecord"]))
        store, rounded = DecodedCache(Path(folder) / "decoded"), preset("fewshot", 224)
        ours(splits["tfrecord"], rounded, store)
        note("vitbench, decoded cache (fewshot)", rate(ours, splits["tfrecord"], rounded, store))
    for name, values in rates.items():
        print(f"{name:36} {statistics.median(values):7.0f} images/s")

    def ratio(name: str, peer: str) -> float:
        # Within a round, then the median: a machine that is slow for a while is slow for both.
        return statistics.median(a / b for a, b in zip(rates[name], rates[peer], strict=True))

    for form in sources:
        share = ratio(f"vitbench, {form}", "bare decode + resize")
        over = ratio(f"vitbench, {form}", "DataLoader, 2 workers")
        print(f"{form:12} to bare {share:.2f} (target 0.9), to the DataLoader {over:.2f} (1.2)")
    share = ratio("our decode, one thread", "libjpeg-turbo, one thread")
    print(f"decode to libjpeg-turbo {share:.3f} (target 0.95)")


if __name__ == "__main__":
    main()
