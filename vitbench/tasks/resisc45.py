"""NWPU-RESISC45: land use in aerial images; only TFDS's order defines the splits (docs/protocols.md#resisc45)."""

from vitbench.api import Task
from vitbench.core.registry import register_task
from vitbench.data.tfds.dataset import DataSet, ManualFile, declare
from vitbench.data.tfds.splits import carved, prepared_task

RESISC45 = declare(
    DataSet(
        "resisc45",
        names="e7ca50ed444a",
        majors=(3,),
        sizes={"train": 31_500},
        # label_label_NNN.jpg: the class appears twice (TFDS:datasets/resisc45/resisc45_dataset_builder.py:111-120)
        key=lambda example, _split: (lambda name: f"{name.rpartition('_')[0]}_{name}")(
            example.text("filename")
        ),
        title=lambda example: example.text("filename"),
        manual=(
            ManualFile(
                "NWPU-RESISC45",
                427_000_000,
                "extract NWPU-RESISC45.rar: <class>/<class>_001.jpg …",
            ),
        ),
    )
)


@register_task(
    "vtab/resisc45",
    version=2,
    group="specialized",
    data=RESISC45.content,
    dataset="resisc45",
    n_test=6300,
    source="VTAB; TA:data/resisc45.py:47-67",
)
def resisc45() -> Task:
    """45 land-use classes, 256 x 256 px aerial images; split 60/20/20."""
    return prepared_task(RESISC45, carved(60, 20), classes=45)
