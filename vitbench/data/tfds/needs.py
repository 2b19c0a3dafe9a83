"""What it takes to have data sets: sizes of downloads, disk space, and the steps that only a person can do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from vitbench.core.format import file_size
from vitbench.data.tfds.dataset import DATA_SETS
from vitbench.data.tfds.status import download_bytes, manual_dir, missing_manual, needed_bytes


@dataclass(frozen=True)
class Need:
    """Of one data set: bytes to download, also by hand, bytes of disk while it is prepared, and the steps by hand if any."""

    name: str
    download_bytes: int
    disk_bytes: int
    steps: tuple[str, ...]


def needs(names: Iterable[str]) -> list[Need]:
    """What these data sets take, of those that are declared."""
    return [_need(name) for name in names if name in DATA_SETS]


def _need(name: str) -> Need:
    data = DATA_SETS[name]
    absent = missing_manual(data)
    steps = tuple(
        f"{file.source} ({file_size(file.about_bytes)}) → {manual_dir() / file.path}" for file in absent
    )
    by_hand = sum(file.about_bytes for file in absent)
    return Need(name, download_bytes(name) if not data.manual else by_hand, needed_bytes(data), steps)
