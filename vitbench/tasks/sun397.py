"""SUN397 in the split drawn for VTAB, TFDS config `tfds` (docs/protocols.md#sun397)."""

from vitbench.api import Task
from vitbench.core.registry import register_task
from vitbench.data.tfds.dataset import DataSet, declare
from vitbench.data.tfds.splits import official, prepared_task

SUN397 = declare(
    DataSet(
        "sun397/tfds",
        names="c4dceb1756ee",
        majors=(4,),
        sizes={"train": 76_128, "validation": 10_875, "test": 21_750},
        also={"train": (76_127, "TFDS 4.9.10 omits one image, after the first 800")},
        key=lambda example, _split: example.text("file_name"),
        title=lambda example: example.text("file_name"),
    )
)


@register_task(
    "vtab/sun397",
    version=2,
    group="natural",
    data=SUN397.content,
    dataset="sun397/tfds",
    n_test=21_750,
    source="VTAB; TA:data/sun397.py",
)
def sun397() -> Task:
    """397 scene categories, images of up to 120,000 pixels."""
    return prepared_task(SUN397, official(), classes=397)
