"""Declarations of data sets as the reference uses them, and the search for prepared copies on disk. Does not import TFDS."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from vitbench.core.digest import digest_files, walk
from vitbench.core.errors import DataMissingError, Problem
from vitbench.core.files import digest_bytes
from vitbench.data.tfds.example import Example, Rule, stored
from vitbench.data.tfds.order import Key

# Others cannot be read by position, or lose examples (docs/protocols.md#tfds-files).
FORMATS = ("array_record", "tfrecord")


@dataclass(frozen=True)
class ManualFile:
    """A file that users must download themselves; `path` is relative to the folder for manual downloads."""

    path: str
    about_bytes: int
    source: str


@dataclass(frozen=True, eq=False)
class DataSet:
    """One TFDS builder as the reference uses it.

    Attributes:
        majors: Major versions with the reference's examples in the reference's order; `at_least` is the first such version.
        sizes: Number of examples of each split in the reference.
        also: Other sizes that are known to be harmless, with the reason.
        labels: Label rules of all tasks on these images, applied in one pass.
        clusters: The label rule that numbers images which belong together, if any do.
        key: Returns the key whose hash determines the stored order, if examples carry it.
        title: Returns the name of an example for messages and pages.
        ink: Factor by which stored pixels are multiplied.
        manual: Files that users must download themselves.
        names: The digest (see `names_digest`) of the label names that TFDS's own builder states, if it does.
        test_set: Of a further test set of a task: TASK/NAME. Such data sets are listed on request only.
        prepared_at_fault: Why the membership of splits cannot be checked, if so.
    """

    name: str
    majors: tuple[int, ...]
    sizes: Mapping[str, int]
    labels: Mapping[str, Rule] = field(default_factory=lambda: {"label": stored()})
    clusters: str = ""
    rules_version: int = 1
    at_least: tuple[int, ...] = ()
    image: str = "image"
    key: Callable[[Example, str], Key] | None = None
    title: Callable[[Example], str] | None = None
    ink: int = 1
    also: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    manual: tuple[ManualFile, ...] = ()
    names: str = ""
    test_set: str = ""
    prepared_at_fault: str = ""

    @property
    def builder(self) -> str:
        """The builder's name without its config."""
        return self.name.partition("/")[0]

    def locate(self) -> Prepared:
        """The newest prepared copy of an accepted version.

        Raises:
            DataMissingError: there is none; the message names the command that prepares it.
        """
        newest = self.newest()
        if newest is None:
            raise DataMissingError(self._missing(data_dir() / self.name), [self.name])
        try:
            info = _read_info(newest / "dataset_info.json")
            if trouble := _contradiction(info, newest, self.builder):
                raise DataMissingError(f"{newest / 'dataset_info.json'} cannot be right: {trouble}")
        except DataMissingError as error:
            problem = Problem(error.problems[0].what, next_step=self.mended(newest))
            raise DataMissingError(problem, [self.name]) from error
        return Prepared(newest, _version(newest), info)

    def newest(self) -> Path | None:
        """The folder of the newest copy of an accepted version, whole or broken; None if there is none."""
        return max(self.versions(), key=_version, default=None)

    def versions(self) -> list[Path]:
        """The folders of all copies of accepted versions, whole or broken."""
        return [path for path in _versions(data_dir() / self.name) if self.accepts(_version(path))]

    def mended(self, broken: Path) -> str:
        """What to do about a broken copy. A copy of another version beside it is not used unasked: its data may differ."""
        others = [path for path in self.versions() if path != broken]
        after = f"  (moves it aside, and uses {max(others, key=_version).name} beside it)" if others else ""
        return f"vitbench data prepare {self.name}{after}"

    def content(self, options: Mapping[str, Any] | None = None) -> str:
        """SHA-256 of what is read of the prepared copy: version, description, label names, and files in their order.

        '' for a task that reads folders instead (`path` in its options), whose content is known by other means.

        Raises:
            DataMissingError: there is no copy.
        """
        if (options or {}).get("path"):
            return ""
        copy = self.locate()
        names = [name for name in walk(copy.path) if _is_read(name, copy.readable)]
        return digest_bytes(
            self.name.encode(), copy.path.name.encode(), digest_files(copy.path, names).encode()
        )

    def accepts(self, version: tuple[int, ...]) -> bool:
        """Whether a version has the reference's data."""
        return version[0] in self.majors and version >= self.at_least

    def _missing(self, folder: Path) -> Problem:
        others = ", ".join(path.name for path in _versions(folder))
        wanted = " or ".join(f"{major}.x" for major in self.majors)
        beside = f" (found version {others}; the reference's data is {wanted})" if others else ""
        return Problem(
            f"data set {self.name} is not prepared in {data_dir()}{beside}",
            next_step=f"vitbench data prepare {self.name}",
        )


@dataclass(frozen=True)
class Prepared:
    """A prepared data set on disk, as described by its dataset_info.json."""

    path: Path
    version: tuple[int, ...]
    info: Mapping[str, Any] = field(repr=False)

    @property
    def file_format(self) -> str:
        """The format it was prepared in, which may be one that cannot be read here."""
        return str(self.info.get("fileFormat") or "tfrecord")

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Number of examples of each split."""
        splits = self.info.get("splits", [])
        return {str(split["name"]): sum(map(int, split.get("shardLengths", []))) for split in splits}

    @property
    def size_bytes(self) -> int:
        """Total size of its files."""
        return sum(file.stat().st_size for file in self.path.iterdir() if file.is_file())

    @property
    def readable(self) -> str:
        """The format to read it in: its own or an alternative it was also prepared in; empty if none can be read."""
        formats = [self.file_format, *map(str, self.info.get("alternativeFileFormats", []))]
        return next((name for name in formats if name in FORMATS), "")


def data_dir() -> Path:
    """Directory of prepared data sets: $TFDS_DATA_DIR (set by --data-dir), else TFDS's default."""
    return Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def names_digest(names: Sequence[str]) -> str:
    """The first 12 hex digits of the SHA-256 over label names, one per line in class order."""
    return digest_bytes("\n".join(names).encode())[:12]


def _is_read(name: str, file_format: str) -> bool:
    """Whether a file of a copy is read in this format: its examples, or a description of them."""
    return f".{file_format}" in name or name.endswith((".json", ".txt"))


def _versions(folder: Path) -> list[Path]:
    """Folders of prepared versions below NAME[/CONFIG]."""
    try:
        entries = sorted(folder.iterdir()) if folder.is_dir() else []
    except OSError as error:
        raise DataMissingError(f"{folder} cannot be read: {error.strerror}") from error
    named = [
        path
        for path in entries
        if len(path.name.split(".")) == 3 and all(map(str.isdecimal, path.name.split(".")))
    ]
    return [path for path in named if (path / "dataset_info.json").is_file()]


def _version(path: Path) -> tuple[int, ...]:
    return tuple(map(int, path.name.split(".")))


def _read_info(path: Path) -> Mapping[str, Any]:
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataMissingError(f"{path} cannot be read: {error}") from error
    if not isinstance(facts, dict):
        raise DataMissingError(f"{path} cannot be read: it is not a JSON object")
    return facts


def _contradiction(info: Mapping[str, Any], path: Path, builder: str) -> str:
    """What in a copy's description contradicts its place or itself; empty if nothing does."""
    for field_name, wanted in (("version", path.name), ("name", builder)):
        if info.get(field_name, wanted) != wanted:
            return f"its {field_name} is {info[field_name]}, in the folder of {wanted}"
    names = [str(split.get("name")) for split in info.get("splits", [])]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        return f"it lists the split {twice[0]!r} twice"
    for split in info.get("splits", []):
        lengths = split.get("shardLengths", [])
        if not all(str(n).isdecimal() for n in lengths):
            return f"its split {split['name']!r} has shards of {', '.join(map(str, lengths[:5]))} examples"
    return ""


DATA_SETS: dict[str, DataSet] = {}


def declare(data: DataSet) -> DataSet:
    """Register a data set for `vitbench data`."""
    DATA_SETS[data.name] = data
    return data
