"""Data sets of the Hugging Face hub as tasks without code, after `vitbench data prepare huggingface:NAME`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vitbench.api import Task
from vitbench.core.digest import digest_files
from vitbench.core.registry import register_task
from vitbench.data.arrow import ArrowTable, arrow_files, is_saved
from vitbench.data.hub import COMMIT_LETTERS, HubData
from vitbench.data.named_splits import SplitNames
from vitbench.data.parquet import ParquetTable
from vitbench.tasks.tables import Columns, Cut, Decoding, Share, White, columns_task


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
    train: str = "",
    val: str = "",
    test: str = "",
    split_seed: int = 0,
    val_share: Share = 0.1,
    test_share: Share = 0.2,
) -> Task:
    """A data set of the hub by its name `OWNER/NAME`, prepared before, or a folder that `datasets` wrote by save_to_disk.

    Args:
        path: its name on the hub, or the folder, relative to where vitbench runs.
        revision: a branch, tag or commit; the commit that was downloaded is in the record.
        config: which of several configs.
        image: the column of images.
        label: the column of classes.
        split: the column of splits, if file names do not say it.
        cluster: a column that says which images belong together, such as a patient's; intervals are then over these.
        exif_rotate: rotate images by their EXIF orientation; the hub's own library does not.
        white: the value that is white in grey images of more than 8 bits; default: 65,535 for integers, 1 for floats.
        train: what the training split is called, if not as usual; once one is named, unknown splits are left out.
        val: what the validation split is called.
        test: what the test split is called.
        split_seed: seed of the cut, where val or test is missing.
        val_share: fraction of train for validation if there is no val.
        test_share: fraction of train for test if there is no test.

    Raises:
        DataMissingError: it is not on this machine, or a split has no images or other labels than train.
        UsageError: a column is missing or holds no images.
    """
    columns = Columns(label, split, cluster, SplitNames(train, val, test))
    how, cut = Decoding(exif_rotate, white), Cut(val_share, test_share, split_seed)
    if is_saved(Path(path)):
        return columns_task(ArrowTable(*arrow_files(Path(path)), image), columns, how, cut)
    found = HubData(path, revision, config).downloaded()
    task = columns_task(ParquetTable(found.folder, found.files, image), columns, how, cut)
    task.version = found.commit[:COMMIT_LETTERS]
    return task


def _content(options: Mapping[str, Any]) -> str:
    """SHA-256 of the files that were downloaded, or saved in a folder.

    Raises:
        DataMissingError: they are not on this machine.
    """
    if is_saved(folder := Path(str(options["path"]))):
        return digest_files(*arrow_files(folder))
    wanted = HubData(
        str(options["path"]), str(options.get("revision", "main")), str(options.get("config", ""))
    )
    found = wanted.downloaded()
    return digest_files(found.folder, found.files)
