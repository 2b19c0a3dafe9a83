"""DMLab frames: distance of the nearest object and sign of its reward (docs/protocols.md#dmlab)."""

from vitbench.api import Task
from vitbench.core.registry import register_task
from vitbench.data.tfds.dataset import DataSet, declare
from vitbench.data.tfds.splits import official, prepared_task

DMLAB = declare(
    DataSet(
        "dmlab",
        majors=(2,),
        at_least=(2, 0, 1),  # TA:data/dmlab.py
        sizes={"train": 65_550, "validation": 22_628, "test": 22_735},
        key=lambda example, _split: example.text("filename"),
        title=lambda example: example.text("filename"),
    )
)


@register_task(
    "vtab/dmlab",
    version=2,
    group="structured",
    data=DMLAB.content,
    dataset="dmlab",
    n_test=22_735,
    source="VTAB; TA:data/dmlab.py",
)
def dmlab() -> Task:
    """Object close, far or very far, with positive or negative reward; 360 x 480 px frames of a 3D maze."""
    # docs/protocols.md#flips-and-crops
    return prepared_task(DMLAB, official(), classes=6, crop=False)
