"""What there is of each data set: ready, to be downloaded, waiting for files that only a person can fetch, or broken."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from vitbench.core.errors import DataMissingError, UsageError
from vitbench.core.format import file_size
from vitbench.data.tfds.dataset import DataSet, ManualFile, data_dir
from vitbench.data.tfds.source import broken

State = Literal["ready", "can be downloaded", "needs manual files", "broken"]
BUILD_FACTOR = 2.2  # room for the archive, what comes out of it and what is made of that


@dataclass(frozen=True)
class Status:
    """One data set's state, with the details that a person acts on."""

    name: str
    state: State
    version: str = ""
    file_format: str = ""
    size_bytes: int = 0
    detail: str = ""

    @property
    def line(self) -> str:
        """The state as a table's row."""
        facts = (
            f"{self.version} {self.file_format} {file_size(self.size_bytes)}".strip() if self.version else ""
        )
        return f"{self.name:45} {self.state:19} {facts}{'  ' if facts else ''}{self.detail}".rstrip()


def status_of(data: DataSet) -> Status:
    """How a data set stands."""
    try:
        copy = data.locate()
    except DataMissingError as error:
        if "cannot be read" in str(error):
            return Status(data.name, "broken", detail=str(error))
        return _absent(data)
    try:
        trouble = broken(copy)
    except DataMissingError as error:
        trouble = error.problems[0].what
    version = ".".join(map(str, copy.version))
    state: State = "broken" if trouble else "ready"
    return Status(data.name, state, version, copy.file_format, copy.size_bytes, trouble)


def manual_dir() -> Path:
    """Where TFDS looks for files that a person fetched."""
    return data_dir() / "downloads" / "manual"


def missing_manual(data: DataSet) -> tuple[ManualFile, ...]:
    """The manual files that are not there yet."""
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
def download_bytes(name: str) -> int:
    """What TFDS will download, from the sizes in its own lists; 0 if it does not know."""
    import tensorflow_datasets as tfds

    with (
        tempfile.TemporaryDirectory() as empty
    ):  # what lies in the data folder is no matter, and may be broken
        builder = tfds.builder(name, data_dir=empty)
        return sum(int(info.size or 0) for info in builder.url_infos.values())


def needed_bytes(data: DataSet) -> int:
    """Room that preparing takes: archives, what is extracted and what is written."""
    raw = max(download_bytes(data.name), sum(file.about_bytes for file in data.manual))
    return int(raw * BUILD_FACTOR)


def named(names: Iterable[str], known: dict[str, DataSet], tasks: dict[str, str]) -> list[DataSet]:
    """The data sets behind names of data sets or tasks, all of them if none is given.

    Raises:
        UsageError: a name is neither.
    """
    from vitbench.core.errors import nearest

    wanted = list(names)
    unknown = [name for name in wanted if name not in known and name not in tasks]
    if unknown:
        close = nearest(unknown[0], [*known, *tasks])
        hint = f"; did you mean {' or '.join(close)}" if close else ""
        raise UsageError(f"{unknown[0]!r} is no data set, task on one, or suite{hint}")
    return [known[name] for name in dict.fromkeys(tasks.get(name, name) for name in wanted or known)]
