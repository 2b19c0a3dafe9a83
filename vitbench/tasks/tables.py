"""Images that a table lists, as a task without code: a CSV of file names, or Parquet files with the images themselves."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from vitbench.api import ImageSource, Task
from vitbench.core.digest import digest_files
from vitbench.core.errors import DataMissingError, Problem, UsageError
from vitbench.core.registry import register_task
from vitbench.data.image_folder import FolderSource
from vitbench.data.parquet import ParquetSource, ParquetTable, check_column
from vitbench.data.table_task import Table, TableTask, splits_of_files

Share = Annotated[float, Field(gt=0, lt=0.9)]
White = Annotated[float, Field(gt=0)] | None
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
        split_seed: seed of the cut.
        val_share: fraction of train for validation if there is no val.
        test_share: fraction of train for test if there is no test.

    Raises:
        UsageError: a column is missing, or the shares leave no training images.
        DataMissingError: a file is missing, or a split has no images or other labels than train.
    """
    rows = _read_csv(path, [image, label, *([cluster] if cluster else [])])
    files = rows[image]
    missing = [name for name in files if not (path.parent / name).is_file()]
    if missing:
        what = f"{path} names {len(missing)} files that do not exist, such as {', '.join(missing[:NAMED])}"
        raise DataMissingError(Problem(what, next_step=f"names are relative to {path.parent}"))
    table = Table(rows[label], rows.get(split), rows[cluster] if cluster else None, str(path))
    cut = {"val": val_share, "test": test_share}

    def source(positions: Sequence[int]) -> ImageSource:
        return FolderSource(path.parent, tuple(files[i] for i in positions), exif_rotate, white)

    return TableTask(table, source, cut, split_seed)


@register_task("parquet", group="own", source="your own images")
def parquet(  # noqa: PLR0913  its options
    path: Path,
    image: str = "image",
    label: str = "label",
    split: str = "split",
    cluster: str = "",
    exif_rotate: bool = True,
    white: White = None,
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
    columns = Columns(label, split, cluster)
    decoding = {"exif_rotate": exif_rotate, "white": white}
    shares = {"val": val_share, "test": test_share}
    return parquet_task(ParquetTable(root, tuple(files), image), columns, decoding, shares, split_seed)


class Columns(NamedTuple):
    """The names of a table's columns beside that of images; the last two if there are any."""

    label: str
    split: str
    cluster: str


def parquet_task(
    table: ParquetTable, columns: Columns, decoding: Mapping[str, Any], shares: Mapping[str, float], seed: int
) -> TableTask:
    """The task of the images in Parquet files."""
    splits = splits_of_files(table.root, dict(table.rows_of_files()))
    if splits is None and columns.split in table.schema.names:
        splits = table.values(columns.split)
    clusters = table.values(columns.cluster) if columns.cluster else None
    names = _class_names(table, columns.label)
    found = Table(table.values(columns.label), splits, clusters, str(table.root), names)

    def source(positions: Sequence[int]) -> ImageSource:
        return ParquetSource(table, tuple(positions), **decoding)

    return TableTask(found, source, shares, seed)


def _read_csv(path: Path, columns: Sequence[str]) -> dict[str, list[str]]:
    import pandas as pd

    separator = "\t" if path.suffix.lower() in (".tsv", ".tab") else ","
    try:
        found = pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8")
    except (OSError, ValueError) as error:
        raise DataMissingError(f"{path} cannot be read as a table: {str(error).splitlines()[0]}") from error
    for column in columns:
        check_column(column, list(map(str, found.columns)), path)
    if found.empty:
        raise DataMissingError(f"{path} has no rows")
    return {str(column): found[column].tolist() for column in found.columns}


def _images_of(options: Mapping[str, Any]) -> str:
    """SHA-256 of the images that a CSV names, in its order; '' where they cannot be read, which opening the task will say."""
    path, image = Path(options["path"]), str(options.get("image", "path"))
    try:
        return digest_files(path.parent, _read_csv(path, [image])[image])
    except (DataMissingError, UsageError, OSError):
        return ""


def _class_names(table: ParquetTable, label: str) -> tuple[str, ...]:
    """The names of classes that Hugging Face's metadata state; () if there are none."""
    try:
        features = json.loads((table.schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        return tuple(map(str, features[label]["names"]))
    except (ValueError, KeyError, TypeError):
        return ()
