"""A source of the images, labels and names of one slice of a prepared data set; labels and names are cached on disk."""

from __future__ import annotations

import io
import json
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from vitbench.api import ImageSource, Indices, Pixels, Split
from vitbench.core.digest import folder_state
from vitbench.core.errors import DataMissingError, Problem
from vitbench.core.files import digest_bytes, write_atomically
from vitbench.core.settings import cache_dir
from vitbench.data.decode import BadImageError, decode
from vitbench.data.tfds.dataset import DataSet, Prepared
from vitbench.data.tfds.description import builder_of
from vitbench.data.tfds.example import Example
from vitbench.data.tfds.order import order_hash, reading_order
from vitbench.data.tfds.release import uneven
from vitbench.data.tfds.shard_file import FORMATS, DamagedFileError, crc32c
from vitbench.data.tfds.shards import Shards, Stretch

FINGERPRINTED = 1000  # examples at the start of a slice, and as many spread over it
CACHED_FROM = 20_000  # examples: labels of large slices are cached, because reading them reads the images too
AT_ONCE = 256
COLUMNS_FORMAT = 2  # raise it when a check of what is cached is added
NAME, SIGNATURE = "name", "signature"
T = TypeVar("T")


class _Row(NamedTuple):
    """What one pass keeps of an example: name, labels, place in TFDS's order, and size and checksum of its image."""

    name: bytes
    labels: list[int]
    place: bytes
    signature: int


@dataclass(frozen=True, eq=False)
class RecordSource(ImageSource):
    """One slice of a prepared data set, such as `train[:2754]`: no example outside of it can be read, so no test label."""

    one_encoding = True  # a builder encodes all its images alike

    data: DataSet
    copy: Prepared
    spec: str

    @cached_property
    def _shards(self) -> Shards:
        return self._shards_of(self.spec)

    @cached_property
    def _whole(self) -> Shards:
        return self._shards_of(self.spec.partition("[")[0])

    def _shards_of(self, spec: str) -> Shards:
        builder = builder_of(self.copy)
        stretches = tuple(
            Stretch(Path(str(part.filename)), part.skip, part.take, part.examples_in_shard)
            for part in builder.info.splits[spec].file_instructions
        )
        missing = [str(part.path) for part in stretches if not part.path.is_file()]
        if missing:
            what = f"{self.data.name}: {len(missing)} of its files are missing, the first is {missing[0]}"
            raise DataMissingError(Problem(what, next_step=f"vitbench data prepare {self.data.name}"))
        return Shards(stretches, FORMATS[self.copy.readable])

    def __len__(self) -> int:
        return len(self._shards)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the data set's name and version, the slice's length, and the encoded images.

        Of 2,000 images the content, of all the size and the CRC-32C, which come with the labels.
        """
        n = len(self)
        front, spread = np.arange(min(n, FINGERPRINTED)), np.arange(FINGERPRINTED) * n // FINGERPRINTED
        chosen = np.union1d(front, spread[spread < n]).tolist()
        images = self._map(chosen, lambda example: digest_bytes(example.data(self.data.image)).encode())
        facts = f"{self.data.name} {self.copy.version} {self.data.image} x{self.data.ink} {n}"
        return digest_bytes(facts.encode(), self._columns[SIGNATURE].tobytes(), *images)

    def stored_digests(self, indices: Indices) -> Sequence[bytes]:
        """The size and CRC-32C of each encoded image; by chance, two of ImageNet's splits agree in one with odds of 1:1,000."""
        return [row.tobytes() for row in self._columns[SIGNATURE][indices]]

    def read(self, indices: Sequence[int], *, fast_dct: bool = False) -> list[Pixels]:
        """Decode the images at these indices to RGB, without alpha.

        Raises:
            BadImageError: some cannot be decoded; it names all of them.
        """
        images: list[Pixels] = []
        bad: dict[str, str] = {}
        for index, data in zip(indices, self._map(indices, self._encoded), strict=True):
            try:
                pixels = decode(data, exif_rotate=False, fast_dct=fast_dct)
                images.append(pixels * np.uint8(self.data.ink) if self.data.ink != 1 else pixels)
            except ValueError as error:
                bad[self.name(index)] = str(error)
        if bad:
            raise BadImageError(bad, len(indices))
        return images

    def _encoded(self, example: Example) -> bytes:
        return example.data(self.data.image)

    def name(self, index: int) -> str:
        """The example's name in the data set if it has one, else data set, slice and position."""
        names = self._columns.get(NAME)
        if names is not None and len(names):
            return bytes(names[index]).decode("utf-8", "backslashreplace")
        return f"{self.data.name}/{self.spec}[{index}]"

    def labels(self, rule: str) -> Indices:
        """The labels of all examples by one rule, (N,) int64."""
        return self._columns[rule].astype(np.int64)

    def reading_order(self) -> Indices:
        """Positions (N,) in this slice, in the order in which TFDS reads it without shuffling."""
        return reading_order([stretch.take for stretch in self._shards.stretches], "slice")

    def examples(self, positions: Sequence[int], what: Callable[[Example], T]) -> list[T]:
        """Apply a function to each of these examples, for `vitbench data verify`."""
        return self._map(positions, what)

    def _map(self, positions: Sequence[int], what: Callable[[Example], T]) -> list[T]:
        """Apply a function to each of these examples.

        Raises:
            DamagedFileError: an example cannot be read, or lacks what the function reads.
        """
        return self._read(self._shards, self.spec, positions, what)

    def _map_whole(self, positions: Sequence[int], what: Callable[[Example], T]) -> list[T]:
        """The same for positions in the whole split: no label outside of the slice is looked at."""
        return self._read(self._whole, self.spec.partition("[")[0], positions, what)

    def _read(
        self, shards: Shards, spec: str, positions: Sequence[int], what: Callable[[Example], T]
    ) -> list[T]:
        found = []
        for position, record in zip(positions, shards.read(positions), strict=True):
            try:
                found.append(what(Example(record)))
            except ValueError as error:
                raise DamagedFileError(f"{self.copy.path}: example {position} of {spec}: {error}") from error
        return found

    def _place(self, example: Example) -> bytes:
        """The hash by which TFDS orders the examples of a split; b'' if examples do not carry their key.

        Raises:
            ValueError: the example belongs to another split.
        """
        if self.data.key is None:
            return b""
        split = self.spec.partition("[")[0]
        try:
            return order_hash(split, self.data.key(example, split))
        except ValueError as error:
            raise ValueError(f"it does not belong to {split}: {error}") from error

    def _check_order(self, places: Sequence[bytes]) -> None:
        """Check that examples are in TFDS's order, also after the file before them and before the next one.

        Files that have been exchanged, within a split or between splits, break it (docs/protocols.md#stored-order).

        Raises:
            DamagedFileError: they are not.
        """
        if self.data.key is None or not places:
            return
        before, after = (self._map_whole(positions, self._place) for positions in self._neighbours())
        ordered = [*before, *places, *after]
        wrong = next((i for i in range(1, len(ordered)) if ordered[i - 1] >= ordered[i]), None)
        if wrong is not None:
            what = f"{self.copy.path}: example {wrong - len(before)} of {self.spec} is not in TFDS's order"
            step = f"files of other splits or shards may have taken its place: vitbench data verify {self.data.name}"
            raise DamagedFileError(Problem(what, next_step=step))

    def _check_labels(self, columns: Mapping[str, NDArray[Any]]) -> None:
        """Check that the classes of a whole split are as large as in the release, where all are equally large.

        Raises:
            DamagedFileError: they are not.
        """
        split = self.spec.partition("[")[0]
        if len(self) != self.data.sizes.get(split):
            return  # a part of it; or a copy of another size, which is a departure
        for rule, labels in columns.items():
            if trouble := uneven(self.data.name, split, labels):
                step = f"vitbench data verify {self.data.name}"
                raise DamagedFileError(
                    Problem(f"{self.copy.path}: {rule} of {split}: {trouble}", next_step=step)
                )

    def _neighbours(self) -> tuple[list[int], list[int]]:
        """Positions in the whole split: the last example of the file before this slice's, and the first of the file after."""
        whole, own = self._whole.stretches, self._shards.stretches
        starts = np.cumsum([0, *(stretch.take for stretch in whole)]).tolist()
        files = [stretch.path for stretch in whole]
        first, last = files.index(own[0].path), files.index(own[-1].path)
        return [starts[first] - 1] * (first > 0), [starts[last + 1]] * (last + 1 < len(files))

    @cached_property
    def _columns(self) -> dict[str, NDArray[Any]]:
        """Names, and labels by every rule, read in one pass and cached on disk if the slice is large."""
        if len(self) < CACHED_FROM:
            return self._read_columns()
        return _cached(self._columns_key(), self._read_columns)

    def _columns_key(self) -> str:
        files = sorted({stretch.path for stretch in self._shards.stretches})
        stats = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        rules = [COLUMNS_FORMAT, self.data.rules_version, sorted(self.data.labels)]
        return digest_bytes(json.dumps([self.spec, rules, stats]).encode())[:32]

    def _read_columns(self) -> dict[str, NDArray[Any]]:
        from tqdm import tqdm

        title = self.data.title
        rules = list(self.data.labels.values())
        rows: list[_Row] = []

        def row(example: Example) -> _Row:
            name = title(example).encode() if title is not None else b""
            image = example.data(self.data.image)
            signature = len(image) << 32 | crc32c(image)
            return _Row(name, [rule(example) for rule in rules], self._place(example), signature)

        quiet = None if len(self) >= CACHED_FROM else True  # None: a bar on terminals only
        with tqdm(total=len(self), desc=f"labels of {self.data.name}", disable=quiet, leave=False) as bar:
            for start in range(0, len(self), AT_ONCE):
                rows += self._map(range(start, min(start + AT_ONCE, len(self))), row)
                bar.update(len(rows) - start)
        self._check_order([row.place for row in rows])
        columns: dict[str, NDArray[Any]] = {
            rule: np.asarray([row.labels[i] for row in rows], dtype=np.int64)
            for i, rule in enumerate(self.data.labels)
        }
        self._check_labels(columns)
        columns[NAME] = np.asarray([row.name for row in rows] if title is not None else [], dtype=np.bytes_)
        columns[SIGNATURE] = np.asarray([row.signature for row in rows], dtype=np.uint64)
        return columns


def _cached(key: str, make: Callable[[], dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    path = cache_dir() / "labels" / f"{key}.npz"
    try:
        with np.load(path, allow_pickle=False) as found:
            return {name: found[name] for name in found.files}
    except (OSError, ValueError, zipfile.BadZipFile):
        made = make()
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **made)
        write_atomically(path, buffer.getvalue())
        return made


_sources: OrderedDict[tuple[str, str, str, str], RecordSource] = OrderedDict()
SOURCES_HELD = 16


def source_of(data: DataSet, copy: Prepared, spec: str) -> RecordSource:
    """The source of a slice of a prepared copy, shared by all tasks on the same images so that labels are read once."""
    key = (data.name, str(copy.path.resolve()), spec, folder_state(copy.path))
    _sources[key] = _sources.pop(key) if key in _sources else RecordSource(data, copy, spec)
    while len(_sources) > SOURCES_HELD:
        _sources.popitem(last=False)
    return _sources[key]


def labelled(source: RecordSource, rule: str) -> Split:
    """The split of all examples of a source, with the labels of one rule, and clusters if images belong together."""
    clusters = source.labels(source.data.clusters) if source.data.clusters else None
    return Split(source, np.arange(len(source)), source.labels(rule), clusters)
