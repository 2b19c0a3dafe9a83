"""Images in webdataset's tar files as a task without code, such as the copies of VTAB's data sets that circulate."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from vitbench.api import ImageSource, Task
from vitbench.core.errors import DataMissingError
from vitbench.core.registry import register_task
from vitbench.data.image_table import TableSource
from vitbench.data.named_splits import SplitNames
from vitbench.data.table_task import Table, TableTask, splits_of_files
from vitbench.data.tar_images import TarTable
from vitbench.tasks.tables import Share, White

CLASS_NAMES = "classnames.txt"
# CLIP_benchmark's layout: a folder wds_vtab-NAME with train/ and test/.
VTAB_COPY = re.compile(r"^wds[_-](?:vtab[_-])", re.IGNORECASE)
OTHER_ORDER = "not the reference's order: its draw of 800 and 200 images cannot be had from this copy"


@register_task("webdataset", group="own", source="your own images")
def webdataset(  # noqa: PLR0913  its options
    path: Path,
    exif_rotate: bool = False,
    white: White = None,
    train: str = "",
    val: str = "",
    test: str = "",
    split_seed: int = 0,
    val_share: Share = 0.1,
    test_share: Share = 0.2,
) -> Task:
    """Tar files with KEY.jpg beside KEY.cls, in a folder; splits by their folders or names; names from classnames.txt.

    Args:
        path: the folder.
        exif_rotate: rotate images by their EXIF orientation; webdataset does not.
        white: the value that is white in grey images of more than 8 bits; default: 65,535 for integers, 1 for floats.
        train: what the training split is called, if not as usual; once one is named, unknown splits are left out.
        val: what the validation split is called.
        test: what the test split is called.
        split_seed: seed of the cut, where val or test is missing.
        val_share: fraction of train for validation if there is no val.
        test_share: fraction of train for test if there is no test.

    Raises:
        DataMissingError: there are no tar files, or a split has no images or other labels than train.
    """
    files = tuple(sorted(str(file.relative_to(path)) for file in path.rglob("*.tar")))
    if not files:
        raise DataMissingError(f"{path} contains no .tar file")
    table = TarTable(path, files)
    sizes = {file: int((table.index["tar"] == number).sum()) for number, file in enumerate(files)}
    names = SplitNames(train, val, test)
    splits = splits_of_files(path, sizes, names)
    found = Table(table.index["label"].tolist(), splits, None, str(path), _class_names(path), names)

    def source(positions: Sequence[int]) -> ImageSource:
        return TableSource(table, tuple(positions), exif_rotate, white)

    departures = (OTHER_ORDER,) if VTAB_COPY.match(path.name) else ()
    return TableTask(found, source, {"val": val_share, "test": test_share}, split_seed, departures)


def _class_names(path: Path) -> tuple[str, ...]:
    """The names in classnames.txt, one per line; () if there is none."""
    file = path / CLASS_NAMES
    return tuple(file.read_text(encoding="utf-8").splitlines()) if file.is_file() else ()
