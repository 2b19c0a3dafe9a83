"""What a TFDS data set is to the reference, and where a prepared copy of it lies. No TFDS import: this answers at once."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from vitbench.data.examples import Example, Rule, stored
from vitbench.data.order import Key
from vitbench.errors import DataMissingError, Problem

FORMATS = (
    "array_record",
    "tfrecord",
)  # others cannot be read by position, or lose examples (facts/data_layer.md 0.2)


@dataclass(frozen=True)
class ManualFile:
    """Something that only a person can fetch, below the folder for manual downloads."""

    path: str
    about_bytes: int
    source: str


@dataclass(frozen=True, eq=False)
class DataSet:
    """One TFDS builder as the reference uses it.

    `majors` are the major versions that hold the reference's examples in the reference's order, newest first. `sizes` are the
    examples of each split there; `also` are other sizes that are known and harmless, with the reason. `labels` are the rules of
    all tasks on these pictures, read in one pass. `key` gives what the stored order is hashed from, where an
    example carries it; `name` what to call an example. `ink` multiplies stored pixels.
    """

    name: str
    majors: tuple[int, ...]
    sizes: Mapping[str, int]
    labels: Mapping[str, Rule] = field(default_factory=lambda: {"label": stored()})
    rules_version: int = 1
    image: str = "image"
    key: Callable[[Example, str], Key] | None = None
    title: Callable[[Example], str] | None = None
    ink: int = 1
    also: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    manual: tuple[ManualFile, ...] = ()
    prepared_at_fault: str = ""

    @property
    def builder(self) -> str:
        """The builder's name without its config."""
        return self.name.partition("/")[0]

    def locate(self) -> Prepared:
        """The newest prepared copy of an accepted version.

        Raises:
            DataMissingError: there is none; the message names the command that gets it.
        """
        folder = data_dir() / self.name
        found = [copy for copy in _copies(folder) if copy.version[0] in self.majors]
        if not found:
            raise DataMissingError(self._missing(folder), [self.name])
        return max(found, key=lambda copy: copy.version)

    def _missing(self, folder: Path) -> Problem:
        others = ", ".join(".".join(map(str, copy.version)) for copy in _copies(folder))
        wanted = " or ".join(f"{major}.x" for major in self.majors)
        beside = f" (version {others} is there; the reference's data is {wanted})" if others else ""
        return Problem(
            f"data set {self.name} is not prepared in {data_dir()}{beside}",
            next_step=f"vitbench data prepare {self.name}",
        )


@dataclass(frozen=True)
class Prepared:
    """A prepared data set on disk, as its dataset_info.json tells."""

    path: Path
    version: tuple[int, ...]
    info: Mapping[str, Any] = field(repr=False)

    @property
    def file_format(self) -> str:
        """array_record, tfrecord, or one that cannot be read."""
        return str(self.info.get("fileFormat") or "tfrecord")

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Examples of each split."""
        splits = self.info.get("splits", [])
        return {str(split["name"]): sum(map(int, split.get("shardLengths", []))) for split in splits}

    @property
    def size_bytes(self) -> int:
        """What its files take on disk."""
        return sum(file.stat().st_size for file in self.path.iterdir() if file.is_file())

    @property
    def readable(self) -> str:
        """How to read it: the format itself or another that it was prepared in as well; empty if none is known."""
        formats = [self.file_format, *map(str, self.info.get("alternativeFileFormats", []))]
        return next((name for name in formats if name in FORMATS), "")


def data_dir() -> Path:
    """Where prepared data sets lie: $TFDS_DATA_DIR (the command line's --data-dir sets it), else TFDS's own default."""
    return Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def _copies(folder: Path) -> list[Prepared]:
    """Prepared versions below NAME[/CONFIG]; what cannot be read as one is passed over."""
    found = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        parts = path.name.split(".")
        info = path / "dataset_info.json"
        if len(parts) == 3 and all(part.isdecimal() for part in parts) and info.is_file():
            found.append(Prepared(path, tuple(map(int, parts)), _read_info(info)))
    return found


def _read_info(path: Path) -> Mapping[str, Any]:
    try:
        facts: Mapping[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DataMissingError(f"{path} cannot be read: {error}") from error
    return facts


DATA_SETS: dict[str, DataSet] = {}


def declare(data: DataSet) -> DataSet:
    """Make a data set known to `vitbench data`."""
    DATA_SETS[data.name] = data
    return data
