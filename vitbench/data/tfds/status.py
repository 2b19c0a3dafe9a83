"""The state of each data set on this machine: ready, downloadable, waiting for manual downloads, or broken."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from vitbench.core.errors import DataMissingError, UsageError, nearest
from vitbench.core.format import file_size
from vitbench.data.tfds.dataset import DataSet, ManualFile, data_dir
from vitbench.data.tfds.description import broken

State = Literal["ready", "can be downloaded", "needs manual files", "broken"]
DOWNLOADS = Path(__file__).with_name("download_bytes.json")  # as TFDS's lists have it; a test compares them
BUILD_FACTOR = 2.2  # disk space for the archive, the extracted files and the prepared ones


@dataclass(frozen=True)
class Status:
    """The state of one data set, and what to do about it."""

    name: str
    state: State
    version: str = ""
    file_format: str = ""
    size_bytes: int = 0
    detail: str = ""

    @property
    def line(self) -> str:
        """The state as one line of a table."""
        facts = (
            f"{self.version} {self.file_format} {file_size(self.size_bytes)}".strip() if self.version else ""
        )
        return f"{self.name:45} {self.state:19} {facts}{'  ' if facts else ''}{self.detail}".rstrip()


def status_of(data: DataSet) -> Status:
    """The state of a data set, judged without reading its examples."""
    try:
        copy = data.locate()
    except DataMissingError as error:
        if data.newest() is not None:
            return Status(data.name, "broken", detail=error.problems[0].what)
        return _absent(data)
    try:
        trouble = broken(copy)
    except DataMissingError as error:
        trouble = error.problems[0].what
    version = ".".join(map(str, copy.version))
    state: State = "broken" if trouble else "ready"
    return Status(data.name, state, version, copy.file_format, copy.size_bytes, trouble)


def manual_dir() -> Path:
    """The folder in which TFDS expects manual downloads."""
    return data_dir() / "downloads" / "manual"


def missing_manual(data: DataSet) -> tuple[ManualFile, ...]:
    """The manual downloads that are missing."""
    return tuple(file for file in data.manual if not (manual_dir() / file.path).exists())


def _absent(data: DataSet) -> Status:
    if absent := missing_manual(data):
        wanted = "; ".join(
            f"{file.path} ({file_size(file.about_bytes)}) from {file.source}" for file in absent
        )
        return Status(data.name, "needs manual files", detail=f"put into {manual_dir()}: {wanted}")
    size = download_bytes(data.name)
    return Status(
        data.name, "can be downloaded", detail=f"{file_size(size)}: vitbench data prepare {data.name}"
    )


@cache
def _known_downloads() -> dict[str, int]:
    return {str(name): int(size) for name, size in json.loads(DOWNLOADS.read_text(encoding="utf-8")).items()}


@cache
def download_bytes(name: str) -> int:
    """How much TFDS will download, by its own lists of sizes, most of which are shipped; 0 if they do not say."""
    if name in _known_downloads():
        return _known_downloads()[name]
    return asked_download_bytes(name)


def asked_download_bytes(name: str) -> int:
    """How much TFDS says that it will download; importing it takes seconds."""
    import tensorflow_datasets as tfds

    with tempfile.TemporaryDirectory() as empty:  # the data folder may hold a broken copy
        builder = tfds.builder(name, data_dir=empty)
        return sum(int(info.size or 0) for info in builder.url_infos.values())


def needed_bytes(data: DataSet) -> int:
    """Disk space that preparation needs, for archives, extracted and prepared files."""
    raw = max(download_bytes(data.name), sum(file.about_bytes for file in data.manual))
    return int(raw * BUILD_FACTOR)


def named(names: Iterable[str], known: dict[str, DataSet], tasks: dict[str, str]) -> list[DataSet]:
    """The data sets with these names or behind these tasks; a builder's name stands for all its configurations.

    Without any name, all of them but those of further test sets.

    Raises:
        UsageError: a name is neither a data set nor a task on one.
    """
    wanted = [each for name in names for each in _configurations(name, known) or [name]]
    unknown = [name for name in wanted if name not in known and name not in tasks]
    if unknown:
        close = nearest(unknown[0], [*known, *tasks])
        hint = f"; did you mean {' or '.join(close)}" if close else ""
        raise UsageError(f"{unknown[0]!r} is not a data set, a task on one, or a suite{hint}")
    chosen = wanted or [name for name, data in known.items() if not data.test_set]
    return [known[name] for name in dict.fromkeys(tasks.get(name, name) for name in chosen)]


def _configurations(name: str, known: dict[str, DataSet]) -> list[str]:
    """The data sets of a builder that is no data set itself, such as `imagenet_v2`."""
    return (
        [each for each, data in known.items() if data.builder == name and data.test_set]
        if name not in known
        else []
    )
