"""Caltech101: 101 object categories and a background class (docs/protocols.md#caltech101)."""

from vitbench.api import Task
from vitbench.core.registry import register_task
from vitbench.data.tfds.dataset import DataSet, declare
from vitbench.data.tfds.splits import held_out, prepared_task

CALTECH101 = declare(
    DataSet(
        "caltech101",
        names="7acb91cb3788",
        majors=(3,),
        sizes={"train": 3060, "test": 6084},  # train: 30 images per class of 102; test: unbalanced
        title=lambda example: example.text("image/file_name"),
        prepared_at_fault="its splits depend on how the file system orders folders (docs/protocols.md#caltech101)",
    )
)


@register_task(
    "vtab/caltech101",
    version=2,
    group="natural",
    data=CALTECH101.content,
    dataset="caltech101",
    n_test=6084,
    source="VTAB; TA:data/caltech.py:69-77",
)
def caltech101() -> Task:
    """101 object categories and a background class, about 300 x 200 px, some greyscale."""
    return prepared_task(CALTECH101, held_out(10), classes=102)
