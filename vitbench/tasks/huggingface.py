"""Data sets of the Hugging Face hub as tasks without code, after `vitbench data prepare huggingface:NAME`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vitbench.api import Task
from vitbench.core.digest import digest_files
from vitbench.core.registry import register_task
from vitbench.data.hub import COMMIT_LETTERS, HubData
from vitbench.data.parquet import ParquetTable
from vitbench.tasks.tables import Columns, Share, White, parquet_task


@register_task(
    "huggingface", data=lambda options: _content(options), group="own", source="the Hugging Face hub"
)
def huggingface(  # noqa: PLR0913  its options
    path: str,
    revision: str = "main",
    config: str = "",
    image: str = "image",
    label: str = "label",
    split: str = "split",
    cluster: str = "",
    exif_rotate: bool = False,
    white: White = None,
    split_seed: int = 0,
    val_share: Share = 0.1,
    test_share: Share = 0.2,
) -> Task:
    """A data set of the hub by its name `OWNER/NAME`: encoded images and labels in Parquet files, prepared before.

    Args:
        path: its name on the hub.
        revision: a branch, tag or commit; the commit that was downloaded is in the record.
        config: which of several configs.
        image: the column of images.
        label: the column of classes.
        split: the column of splits, if file names do not say it.
        cluster: a column that says which images belong together, such as a patient's; intervals are then over these.
        exif_rotate: rotate images by their EXIF orientation; the hub's own library does not.
        white: the value that is white in grey images of more than 8 bits; default: 65,535 for integers, 1 for floats.
        split_seed: seed of the cut, where val or test is missing.
        val_share: fraction of train for validation if there is no val.
        test_share: fraction of train for test if there is no test.

    Raises:
        DataMissingError: it is not on this machine, or a split has no images or other labels than train.
        UsageError: a column is missing or holds no images.
    """
    found = HubData(path, revision, config).downloaded()
    table = ParquetTable(found.folder, found.files, image)
    decoding = {"exif_rotate": exif_rotate, "white": white}
    shares = {"val": val_share, "test": test_share}
    task = parquet_task(table, Columns(label, split, cluster), decoding, shares, split_seed)
    task.version = found.commit[:COMMIT_LETTERS]
    return task


def _content(options: Mapping[str, Any]) -> str:
    """SHA-256 of the files that were downloaded.

    Raises:
        DataMissingError: they are not on this machine.
    """
    wanted = HubData(
        str(options["path"]), str(options.get("revision", "main")), str(options.get("config", ""))
    )
    found = wanted.downloaded()
    return digest_files(found.folder, found.files)
