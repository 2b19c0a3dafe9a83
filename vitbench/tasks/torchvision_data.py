"""Data sets of torchvision that are on disk as tasks without code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vitbench.api import ImageSource, Task
from vitbench.core.errors import DataMissingError, UsageError
from vitbench.core.files import digest_bytes
from vitbench.core.registry import register_task
from vitbench.data.named_splits import SplitNames
from vitbench.data.table_task import Table, TableTask
from vitbench.data.torchvision_images import Part, parts
from vitbench.tasks.tables import Cut, Share, White


@register_task(
    "torchvision",
    digest=lambda _root: "",  # it may hold many data sets; `data` is what is read
    data=lambda options: _content(options),
    libraries=("torchvision",),
    group="own",
    source="torchvision",
)
def torchvision(  # noqa: PLR0913  its options
    path: str,
    root: Path,
    options: dict[str, str | int | float | bool] = {},  # noqa: B006  it is not changed
    exif_rotate: bool = False,
    white: White = None,
    train: str = "",
    val: str = "",
    test: str = "",
    split_seed: int = 0,
    val_share: Share = 0.1,
    test_share: Share = 0.2,
) -> Task:
    """A data set of torchvision that has been downloaded, by the name of its class.

    Args:
        path: the name of its class in torchvision.datasets.
        root: the folder that it was downloaded to.
        options: further arguments of the class, such as `{split: letters}` for EMNIST.
        exif_rotate: rotate images in files by their EXIF orientation; torchvision does not.
        white: the value that is white in grey images of more than 8 bits; default: 65,535 for integers, 1 for floats.
        train: what the training split is called, if not as usual; once one is named, unknown splits are left out.
        val: what the validation split is called.
        test: what the test split is called.
        split_seed: seed of the cut, where val or test is missing.
        val_share: fraction of train for validation if there is no val.
        test_share: fraction of train for test if there is no test.

    Raises:
        DataMissingError: it is not there, or a split has other labels than train.
        UsageError: torchvision has no such data set, or its labels are no classes.
    """
    names = SplitNames(train, val, test)
    found, classes = parts(path, root, options, names)
    labels = [label for part in found for label in part.labels]
    splits = [part.split for part in found for _ in part.labels]
    table = Table(labels, splits, None, f"torchvision's {path}", classes, names)
    cut = Cut(val_share, test_share, split_seed)

    def source(positions: Sequence[int]) -> ImageSource:
        part, first = _part_of(found, positions)
        return part.source(root, [i - first for i in positions], exif_rotate, white)

    return TableTask(table, source, cut.shares, cut.seed)


def _part_of(found: Sequence[Part], positions: Sequence[int]) -> tuple[Part, int]:
    """The part that holds these positions among all examples, and that of its first."""
    first = 0
    for part in found:
        if not positions or positions[0] < first + len(part.labels):
            return part, first
        first += len(part.labels)
    raise IndexError(positions[0])


def _content(options: Mapping[str, Any]) -> str:
    """SHA-256 of the images and labels; '' where they cannot be read, which opening the task will say."""
    try:
        names = SplitNames(*(options.get(name, "") for name in SplitNames._fields))
        root = Path(options["root"])
        found, classes = parts(options["path"], root, options.get("options", {}), names)
        return digest_bytes(
            repr(classes).encode(),
            *(repr((part.split, part.labels)).encode() for part in found),
            *(part.source(root, range(len(part.labels)), False, None).fingerprint.encode() for part in found),
        )
    except (DataMissingError, UsageError, OSError):
        return ""
