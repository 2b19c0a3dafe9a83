"""Describable Textures, official fold 1 only (docs/protocols.md#dtd)."""

from vitbench.api import Task
from vitbench.core.registry import register_task
from vitbench.data.tfds.dataset import DataSet, declare
from vitbench.data.tfds.splits import official, prepared_task

DTD = declare(
    DataSet(
        "dtd",
        names="8216c82ba46f",
        majors=(3,),
        sizes={"train": 1880, "validation": 1880, "test": 1880},
        # class/file.jpg (TFDS:image_classification/dtd.py:88-100)
        key=lambda example, _split: example.text("file_name"),
        title=lambda example: example.text("file_name"),
    )
)


@register_task(
    "vtab/dtd",
    version=2,
    group="natural",
    data=DTD.content,
    dataset="dtd",
    n_test=1880,
    source="VTAB; TA:data/dtd.py:29-37",
)
def dtd() -> Task:
    """47 texture attributes, 40 images per class in each split."""
    return prepared_task(DTD, official(), classes=47)
