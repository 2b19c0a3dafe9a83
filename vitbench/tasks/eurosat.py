"""EuroSAT, RGB: land use from Sentinel-2 images; only TFDS's order defines the splits (docs/protocols.md#eurosat)."""

from vitbench.api import Task
from vitbench.core.registry import register_task
from vitbench.data.tfds.dataset import DataSet, declare
from vitbench.data.tfds.splits import carved, prepared_task

EUROSAT = declare(
    DataSet(
        "eurosat/rgb",
        names="9ce11aec9bcc",
        majors=(2,),
        sizes={"train": 27_000},
        # label_label_N.jpg: the class appears twice (TFDS:image_classification/eurosat.py:152-166)
        key=lambda example, _split: (lambda name: f"{name.partition('_')[0]}_{name}")(
            example.text("filename")
        ),
        title=lambda example: example.text("filename"),
    )
)


@register_task(
    "vtab/eurosat",
    version=2,
    group="specialized",
    data=EUROSAT.content,
    dataset="eurosat/rgb",
    n_test=5400,
    source="VTAB; TA:data/eurosat.py:47-67",
)
def eurosat() -> Task:
    """10 land-use classes, 64 x 64 px satellite images; split 60/20/20."""
    return prepared_task(EUROSAT, carved(60, 20), classes=10)
