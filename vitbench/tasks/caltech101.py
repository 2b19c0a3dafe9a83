"""Caltech101: 101 objects and background (protocols.md 1.1 row 1, 1.2)."""

from vitbench.api import Task
from vitbench.core.registry import register_task
from vitbench.data.tfds.dataset import DataSet, declare
from vitbench.data.tfds.splits import held_out, prepared_task

CALTECH101 = declare(
    DataSet(
        "caltech101",
        majors=(3,),
        sizes={"train": 3060, "test": 6084},  # train: 30 images of each of 102 classes; test is not balanced
        title=lambda example: example.text("image/file_name"),
        prepared_at_fault="its train and test depend on how a file system lists folders (TFDS:datasets/caltech101:87-105)",
    )
)


@register_task(
    "vtab/caltech101", group="natural", dataset="caltech101", source="VTAB; TA:data/caltech.py:69-77"
)
def caltech101() -> Task:
    """101 kinds of objects and background, images of about 300 x 200 px, some of them grey."""
    return prepared_task(CALTECH101, held_out(10), classes=102)
