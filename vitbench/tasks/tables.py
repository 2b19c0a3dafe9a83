"""Images that a table lists, as a task without code: a CSV of file names, or Parquet or Arrow files with the images."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from vitbench.api import ImageSource, Task
from vitbench.core.digest import digest_files
from vitbench.core.errors import DataMissingError, Problem, UsageError
from vitbench.core.registry import register_task
from vitbench.data.arrow import ArrowTable, arrow_files
from vitbench.data.image_folder import FolderSource
from vitbench.data.image_table import ColumnTable, TableSource, check_column
from vitbench.data.named_splits import SplitNames
from vitbench.data.parquet import ParquetTable
from vitbench.data.table_task import Table, TableTask, splits_of_files

Share = Annotated[float, Field(gt=0, lt=0.9)]
White = Annotated[float, Field(gt=0)] | None
ROWS_AT_ONCE = 50_000  # of a CSV
NAMED = 5  # of files or labels in a message


@register_task("csv", data=lambda options: _images_of(options), group="own", source="your own images")
def csv(  # noqa: PLR0913  its options
    path: Path,
    image: str = "path",
    label: str = "label",
    split: str = "split",
    cluster: str = "",
    exif_rotate: bool = True,
    white: White = None,
    train: str = "",
    val: str = "",
    test: str = "",
    split_seed: int = 0,
    val_share: Share = 0.1,
    test_share: Share = 0.2,
) -> Task:
    """Image files named in a CSV (or TSV) with a header; a column `split` says train, val or test, or they are cut at random.

    Args:
        path: the table; names of files are relative to its folder.
        image: the column of file names.
        label: the column of classes.
        split: the column of splits; if there is none, or no val or test in it, stratified parts of train are taken.
        cluster: a column that says which images belong together, such as a patient's; intervals are then over these.
        exif_rotate: rotate images by their EXIF orientation.
        white: the value that is white in grey images of more than 8 bits; default: 65,535 for integers, 1 for floats.
        train: what the training split is called, if not as usual; once one is named, unknown splits are left out.
        val: what the validation split is called.
        test: what the test split is called.
        split_seed: seed of the cut.
        val_share: fraction of train for validation if there is no val.
        test_share: fraction of train for test if there is no test.

    Raises:
        UsageError: a column is missing, or the shares leave no training images.
        DataMissingError: a file is missing, or a split has no images or other labels than train.
    """
    rows = _read_csv(path, [image, label, *([cluster] if cluster else [])], [split])
    files = rows[image]
    folder = os.fspath(path.parent)
    missing = [name for name in files if not os.path.isfile(os.path.join(folder, name))]  # noqa: PTH113, PTH118  a million
    if missing:
        what = f"{path} names {len(missing)} files that do not exist, such as {', '.join(missing[:NAMED])}"
        raise DataMissingError(Problem(what, next_step=f"names are relative to {path.parent}"))
    names = SplitNames(train, val, test)
    table = Table(rows[label], rows.get(split), rows[cluster] if cluster else None, str(path), (), names)
    cut = Cut(val_share, test_share, split_seed)

    def source(positions: Sequence[int]) -> ImageSource:
        return FolderSource(path.parent, tuple(files[i] for i in positions), exif_rotate, white)

    return TableTask(table, source, cut.shares, cut.seed)


@register_task("parquet", group="own", source="your own images")
def parquet(  # noqa: PLR0913  its options
    path: Path,
    image: str = "image",
    label: str = "label",
    split: str = "split",
    cluster: str = "",
    exif_rotate: bool = True,
    white: White = None,
    train: str = "",
    val: str = "",
    test: str = "",
    split_seed: int = 0,
    val_share: Share = 0.1,
    test_share: Share = 0.2,
) -> Task:
    """Parquet files with encoded images and labels, as the Hugging Face hub has them: one file, or a folder of files.

    In a folder, files belong to the split that their names begin with (`train-00000-of-00002.parquet`) or that their folder
    names; otherwise a column `split` says it, or splits are cut at random.

    Args:
        path: the file or the folder.
        image: the column of images: bytes, or a struct with `bytes`.
        label: the column of classes: numbers, whose names may be in the file's metadata, or texts.
        split: the column of splits, if there is one.
        cluster: a column that says which images belong together, such as a patient's; intervals are then over these.
        exif_rotate: rotate images by their EXIF orientation.
        white: the value that is white in grey images of more than 8 bits; default: 65,535 for integers, 1 for floats.
        train: what the training split is called, if not as usual; once one is named, unknown splits are left out.
        val: what the validation split is called.
        test: what the test split is called.
        split_seed: seed of the cut.
        val_share: fraction of train for validation if there is no val.
        test_share: fraction of train for test if there is no test.

    Raises:
        UsageError: a column is missing or holds no images, or the shares leave no training images.
        DataMissingError: there are no files, or a split has no images or other labels than train.
    """
    root = path if path.is_dir() else path.parent
    files = (
        sorted(str(file.relative_to(root)) for file in path.rglob("*.parquet"))
        if path.is_dir()
        else [path.name]
    )
    if not files:
        raise DataMissingError(f"{path} contains no .parquet file")
    columns = Columns(label, split, cluster, SplitNames(train, val, test))
    how = Decoding(exif_rotate, white)
    cut = Cut(val_share, test_share, split_seed)
    return columns_task(ParquetTable(root, tuple(files), image), columns, how, cut)


@register_task("arrow", group="own", source="your own images")
def arrow(  # noqa: PLR0913  its options
    path: Path,
    image: str = "image",
    label: str = "label",
    split: str = "split",
    cluster: str = "",
    exif_rotate: bool = False,
    white: White = None,
    train: str = "",
    val: str = "",
    test: str = "",
    split_seed: int = 0,
    val_share: Share = 0.1,
    test_share: Share = 0.2,
) -> Task:
    """Arrow files with encoded images and labels: a folder that `datasets` wrote by save_to_disk or as its cache, or one file.

    Args:
        path: the folder or the file.
        image: the column of images: bytes, or a struct with `bytes`.
        label: the column of classes: numbers, whose names may be in the file's metadata, or texts.
        split: the column of splits, if files and folders do not say it.
        cluster: a column that says which images belong together, such as a patient's; intervals are then over these.
        exif_rotate: rotate images by their EXIF orientation; `datasets` does not.
        white: the value that is white in grey images of more than 8 bits; default: 65,535 for integers, 1 for floats.
        train: what the training split is called, if not as usual; once one is named, unknown splits are left out.
        val: what the validation split is called.
        test: what the test split is called.
        split_seed: seed of the cut.
        val_share: fraction of train for validation if there is no val.
        test_share: fraction of train for test if there is no test.

    Raises:
        UsageError: a column is missing or holds no images, or the shares leave no training images.
        DataMissingError: there are no files, or a split has no images or other labels than train.
    """
    columns = Columns(label, split, cluster, SplitNames(train, val, test))
    return columns_task(
        ArrowTable(*arrow_files(path), image),
        columns,
        Decoding(exif_rotate, white),
        Cut(val_share, test_share, split_seed),
    )


class Columns(NamedTuple):
    """The names of a table's columns beside that of images, the last two of them if there are any, and of its splits."""

    label: str
    split: str
    cluster: str
    splits: SplitNames


class Decoding(NamedTuple):
    """How images are decoded."""

    exif_rotate: bool
    white: float | None


class Cut(NamedTuple):
    """How val and test are cut from train where they are missing."""

    val_share: float
    test_share: float
    seed: int

    @property
    def shares(self) -> dict[str, float]:
        """By split."""
        return {"val": self.val_share, "test": self.test_share}


def columns_task(table: ColumnTable, columns: Columns, how: Decoding, cut: Cut) -> TableTask:
    """The task of the images in files with columns."""
    splits = splits_of_files(table.root, dict(table.rows_of_files()), columns.splits)
    by_column = columns.split in table.schema.names
    if by_column and (splits is None or len(set(splits)) == 1):
        splits = table.values(columns.split)
    clusters = table.values(columns.cluster) if columns.cluster else None
    names = _class_names(table, columns.label)
    found = Table(table.values(columns.label), splits, clusters, str(table.root), names, columns.splits)

    def source(positions: Sequence[int]) -> ImageSource:
        return TableSource(table, tuple(positions), how.exif_rotate, how.white)

    return TableTask(found, source, cut.shares, cut.seed)


def _read_csv(path: Path, columns: Sequence[str], optional: Sequence[str] = ()) -> dict[str, list[str]]:
    """These columns as texts, the first of them file names; equal texts of the others are one object: rows may be a million."""
    import pandas as pd

    separator = "\t" if path.suffix.lower() in (".tsv", ".tab") else ","
    how: dict[str, Any] = {"sep": separator, "keep_default_na": False, "encoding": "utf-8"}
    try:
        there = list(map(str, pd.read_csv(path, nrows=0, **how).columns))
        for column in columns:
            check_column(column, there, path)
        wanted = [column for column in there if column in (*columns, *optional)]
        kinds = {column: "str" if column == columns[0] else "category" for column in wanted}
        found: dict[str, list[str]] = {column: [] for column in wanted}
        for part in pd.read_csv(path, usecols=wanted, dtype=kinds, chunksize=ROWS_AT_ONCE, **how):
            for column in wanted:
                found[column] += part[column].tolist()
    except (OSError, ValueError) as error:
        raise DataMissingError(f"{path} cannot be read as a table: {str(error).splitlines()[0]}") from error
    if not found[columns[0]]:
        raise DataMissingError(f"{path} has no rows")
    return found


def _images_of(options: Mapping[str, Any]) -> str:
    """SHA-256 of the images that a CSV names, in its order; '' where they cannot be read, which opening the task will say."""
    path, image = Path(options["path"]), str(options.get("image", "path"))
    try:
        return digest_files(path.parent, _read_csv(path, [image])[image])
    except (DataMissingError, UsageError, OSError):
        return ""


def _class_names(table: ColumnTable, label: str) -> tuple[str, ...]:
    """The names of classes that Hugging Face's metadata state; () if there are none."""
    try:
        features = json.loads((table.schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        return tuple(map(str, features[label]["names"]))
    except (ValueError, KeyError, TypeError):
        return ()
