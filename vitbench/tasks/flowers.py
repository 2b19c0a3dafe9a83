"""Oxford Flowers 102: as in the ViT paper (docs/protocols.md#vit-data-sets), and as in VTAB (docs/protocols.md#flowers102)."""

from vitbench.api import Task
from vitbench.core.registry import register_task
from vitbench.data.tfds.dataset import DataSet, declare
from vitbench.data.tfds.splits import held_out, official, prepared_task

FLOWERS = declare(
    DataSet(
        "oxford_flowers102",
        names="e578c3c6a068",
        majors=(2,),
        # trnid, valid and tstid of setid.mat: test is the largest (other libraries swap them; docs/protocols.md#flowers102)
        sizes={"train": 1020, "validation": 1020, "test": 6149},
        key=lambda example, _split: example.text("file_name"),
        title=lambda example: example.text("file_name"),
    )
)


@register_task(
    "oxford_flowers102",
    version=2,
    group="vit",
    data=FLOWERS.content,
    dataset="oxford_flowers102",
    n_test=6149,
    source="ViT paper App. B.1.1; BV:configs/transfer.py:66-77",
)
def oxford_flowers102() -> Task:
    """102 flower species; last 10 % of the 1,020 official training images used for validation."""
    return prepared_task(FLOWERS, held_out(10), classes=102)


@register_task(
    "vtab/flowers102",
    version=2,
    group="natural",
    data=FLOWERS.content,
    dataset="oxford_flowers102",
    n_test=6149,
    source="VTAB; TA:data/oxford_flowers102.py",
)
def vtab_flowers102() -> Task:
    """102 flower species; official validation split of 1,020 images."""
    return prepared_task(FLOWERS, official(), classes=102)
