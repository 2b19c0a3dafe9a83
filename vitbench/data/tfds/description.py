"""What TFDS reads in the description of a prepared copy: its files, its label names, and whether all files are there."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from vitbench.core.digest import folder_state
from vitbench.core.errors import DataMissingError
from vitbench.data.tfds.dataset import Prepared


def builder_of(copy: Prepared) -> Any:
    """TFDS's reader of a copy's description, as it is now."""
    return _builder(str(copy.path), copy.readable, folder_state(copy.path))


@cache
def _builder(path: str, file_format: str, _state: str) -> Any:
    import tensorflow_datasets as tfds

    try:
        return tfds.builder_from_directory(path, file_format=file_format)
    except (OSError, ValueError, AssertionError, KeyError) as error:
        raise DataMissingError(f"{path} cannot be read: {str(error).strip().splitlines()[0]}") from error


def broken(copy: Prepared, splits: Iterable[str] | None = None) -> str:
    """Why a prepared copy cannot be used, judged without reading its examples; empty if nothing is wrong."""
    if not copy.readable:
        return f"its format {copy.file_format} cannot be read by position: prepare it again"
    if not copy.sizes:
        return f"{copy.path} lists no splits: its preparation was interrupted"
    for split in copy.sizes if splits is None else splits:
        for path in shard_paths(copy, split):
            if not path.is_file():
                return f"{path} is missing"
            if path.stat().st_size == 0:
                return f"{path} is empty"
    return ""


def shard_paths(copy: Prepared, split: str) -> list[Path]:
    """The files of a split, whether they exist or not."""
    builder = builder_of(copy)
    return [Path(str(path)) for path in builder.info.splits[split].filepaths]


def class_names(copy: Prepared, feature: str) -> tuple[str, ...]:
    """The class names of a stored label feature."""
    return tuple(builder_of(copy).info.features[feature].names)
