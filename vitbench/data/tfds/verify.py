"""Checks of a prepared copy against the reference's data: counts, order, labels, draws (docs/protocols.md#golden-keys)."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from vitbench.core.errors import DataMissingError, UsageError, VitbenchError
from vitbench.data.duplicates import equal_images
from vitbench.data.tfds.dataset import DataSet, Prepared
from vitbench.data.tfds.example import Example
from vitbench.data.tfds.order import Key, digest_keys, order_hash
from vitbench.data.tfds.release import EVEN_CLASSES, KNOWN_DRAWS, is_jpeg, reencoded
from vitbench.data.tfds.shard_file import DamagedFileError
from vitbench.data.tfds.source import RecordSource, labelled
from vitbench.data.tfds.splits import departures

FINGERPRINTED = 1000
AT_ONCE = 256
DUMP_LISTS = ("train800.txt", "val200.txt", "train800val200.txt")


@dataclass(frozen=True)
class Item:
    """The result of one check; `ok` is None where no reference value is known."""

    what: str
    ok: bool | None
    text: str


def verify(
    data: DataSet, report: Callable[[str, int, int], None] = lambda _what, _done, _total: None
) -> Iterator[Item]:
    """Yield the results of all checks of a prepared copy; reads all of it."""
    try:
        copy = data.locate()
    except DataMissingError as error:
        yield Item("prepared", False, error.problems[0].what)
        return
    yield Item("prepared", True, f"{'.'.join(map(str, copy.version))} in {copy.path}")
    faults = departures(data, copy)
    known = "; ".join(reason for _, reason in data.also.values())
    yield Item(
        "split sizes", not faults, "; ".join(faults) or f"as in the reference{f' ({known})' if known else ''}"
    )
    if data.prepared_at_fault:
        yield Item("membership", None, f"cannot be checked: {data.prepared_at_fault}")
    readable = True
    for split in data.sizes:
        if split in copy.sizes:
            for item in _split(data, copy, split, report):
                readable &= item.what != f"{split} readable" or item.ok is True
                yield item
    if readable:
        yield from _in_two_splits(data, copy)


def _in_two_splits(data: DataSet, copy: Prepared) -> Iterator[Item]:
    """Images that are stored in two splits; whether the release has them too is not known."""
    names = {"train": "train", "validation": "val", "test": "test"}
    splits = {
        names[split]: labelled(RecordSource(data, copy, split), next(iter(data.labels)))
        for split in data.sizes
        if split in names and copy.sizes.get(split)
    }
    found = Counter((pair.split, pair.other) for pair in equal_images(splits, "files"))
    for (split, other), n in found.items():
        yield Item(f"{split} in {other}", None, f"{n:,} images are in both")
    if not found and len(splits) > 1:
        yield Item("equal images", True, "no image is in two splits")


def _split(
    data: DataSet, copy: Prepared, split: str, report: Callable[[str, int, int], None]
) -> Iterator[Item]:
    source = RecordSource(data, copy, split)
    labels: list[tuple[int, ...]] = []
    keys: list[Key] = []
    if copy.sizes[split] == 0:
        yield Item(f"{split} readable", False, "it is empty")
        return
    try:
        for start in range(0, len(source), AT_ONCE):
            some = range(start, min(start + AT_ONCE, len(source)))
            for found, key in source.examples(some, partial(_facts, data, split)):
                labels.append(found)
                keys += [] if key is None else [key]
            report(f"{data.name} {split}", len(labels), len(source))
    except (DamagedFileError, VitbenchError, ValueError) as error:
        yield Item(f"{split} readable", False, str(error))
        return
    yield Item(f"{split} readable", True, f"{len(labels):,} examples")
    yield from _order(data, copy, split, keys)
    yield from _histogram(data, split, np.asarray(labels, dtype=np.int64))
    yield _encoding(data, source, split)
    try:
        yield Item(f"{split} fingerprint", None, fingerprint(source, labels[:FINGERPRINTED]))
    except VitbenchError as error:
        yield Item(f"{split} images", False, str(error))


def _facts(data: DataSet, split: str, example: Example) -> tuple[tuple[int, ...], Key | None]:
    key = data.key(example, split) if data.key is not None else None
    return tuple(rule(example) for rule in data.labels.values()), key


def _order(data: DataSet, copy: Prepared, split: str, keys: list[Key]) -> Iterator[Item]:
    if keys:
        hashes = [order_hash(split, key) for key in keys]
        wrong = next((i for i in range(1, len(hashes)) if hashes[i - 1] >= hashes[i]), None)
        text = "as TFDS stores it" if wrong is None else f"example {wrong} ({keys[wrong]}) is out of order"
        yield Item(f"{split} order", wrong is None, text)
    for draw in KNOWN_DRAWS.get(data.name, ()):
        if draw.split == split and copy.sizes[split] >= draw.start + draw.count:
            found = digest_keys(keys[draw.start : draw.start + draw.count])
            text = f"{draw.count} keys from {draw.start:,}: {found}"
            same = found == draw.digest
            yield Item(f"{split} draw", same, text if same else f"{text}, the reference's are {draw.digest}")


def _histogram(
    data: DataSet, split: str, labels: np.ndarray[tuple[int, int], np.dtype[np.int64]]
) -> Iterator[Item]:
    even = EVEN_CLASSES.get(data.name, {}).get(split)
    for column, rule in enumerate(data.labels):
        counts = np.bincount(labels[:, column])
        text = f"{rule}: {len(counts)} classes of {counts.min():,} to {counts.max():,}"
        yield Item(f"{split} labels", None if even is None else bool((counts == even).all()), text)


def _encoding(data: DataSet, source: RecordSource, split: str) -> Item:
    """Whether images are stored as released."""
    first = source.examples([0], lambda example: example.data(data.image))[0]
    found = reencoded(data.name, first)
    return Item(f"{split} pixels", not found, found or ("JPEG as released" if is_jpeg(first) else "lossless"))


def fingerprint(source: RecordSource, labels: list[tuple[int, ...]]) -> str:
    """SHA-256 of the decoded pixels and labels of the first 1,000 examples, equal on all machines and in all formats."""
    total = hashlib.sha256()
    for start in range(0, len(labels), AT_ONCE):
        some = range(start, min(start + AT_ONCE, len(labels)))
        for pixels in source.read(some):
            total.update(repr(pixels.shape).encode() + pixels.tobytes())
    total.update(repr(labels).encode())
    return total.hexdigest()


def recognise_dump(folder: Path) -> Item:
    """Recognise the VTAB-1k image dump that circulates, in which lossless images are re-encoded as JPEG (users.md 2.1).

    Raises:
        UsageError: there is no such folder.
    """
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}")
    lists = [path for name in DUMP_LISTS for path in folder.rglob(name)]
    if not lists:
        return Item("folder", None, f"{folder} is not a VTAB-1k dump: it has no {DUMP_LISTS[0]}")
    roots = sorted({path.parent.name for path in lists})
    lossy = sorted({path.parent.name for path in lists if any(path.parent.rglob("*.jp*g"))})
    text = (
        f"{folder} is the VTAB-1k image dump of the NOAH and SSF lineage: {len(roots)} tasks ({', '.join(roots[:4])} …), "
        f"{len(lossy)} of them re-encoded as JPEG. Its scores are not comparable: CIFAR-100 scores about 10 points lower. "
        "Prepare the originals: vitbench data prepare"
    )
    return Item("folder", False, text)
