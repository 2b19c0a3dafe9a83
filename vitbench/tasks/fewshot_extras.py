"""Data sets used only by the few-shot evaluations (docs/protocols.md#few-shot-data-sets)."""

from vitbench.api import Task
from vitbench.core.registry import register_task
from vitbench.data.tfds.dataset import DataSet, declare
from vitbench.data.tfds.splits import carved, held_out, prepared_task

CARS196 = declare(
    DataSet(
        "cars196",
        names="e0381b6b9731",
        majors=(2,),
        at_least=(2, 1, 0),  # pinned by the reference, and the first version with example ids
        sizes={"train": 8144, "test": 8041},
        title=lambda example: example.text("id"),
    )
)
BIRDS = declare(
    DataSet(
        "caltech_birds2011",
        majors=(0,),
        sizes={"train": 5994, "test": 5794},
        title=lambda example: example.text("image/filename"),
    )
)
UC_MERCED = declare(
    DataSet(
        "uc_merced",
        names="02ddc4b26da9",
        majors=(2,),
        sizes={"train": 2100},
        title=lambda example: example.text("filename"),
    )
)
COLORECTAL = declare(
    DataSet(
        "colorectal_histology",
        names="01e409221b33",
        majors=(2,),
        sizes={"train": 5000},
        title=lambda example: example.text("filename"),
    )
)


@register_task(
    "cars196",
    version=2,
    group="fewshot",
    data=CARS196.content,
    dataset="cars196",
    n_test=8041,
    source="BV:configs/common_fewshot.py:35-45",
)
def cars196() -> Task:
    """196 car models; shots from all of train; budget `full`: last 10 % of train used for validation."""
    return prepared_task(CARS196, held_out(10), classes=196)


@register_task(
    "caltech_birds2011",
    version=2,
    group="fewshot",
    data=BIRDS.content,
    dataset="caltech_birds2011",
    n_test=5794,
    source="SC:scenic/train_lib/transfer/fewshot_utils.py",
)
def caltech_birds2011() -> Task:
    """200 bird species; shots from all of train; budget `full`: last 10 % of train used for validation."""
    return prepared_task(BIRDS, held_out(10), classes=200)


@register_task(
    "uc_merced",
    version=2,
    group="fewshot",
    data=UC_MERCED.content,
    dataset="uc_merced",
    n_test=1100,
    source="BV:configs/common_fewshot.py:35-45",
)
def uc_merced() -> Task:
    """21 land-use classes; first 1,000 of 2,100 images are train (budget `full`: 100 of them for validation), the rest test."""
    return prepared_task(UC_MERCED, carved(900, 100, of=2100), classes=21)


@register_task(
    "colorectal_histology",
    version=2,
    group="fewshot",
    data=COLORECTAL.content,
    dataset="colorectal_histology",
    n_test=3000,
    source="SC:scenic/train_lib/transfer/fewshot_utils.py",
)
def colorectal_histology() -> Task:
    """8 tissue types; first 2,000 of 5,000 images are train (budget `full`: 200 of them for validation), the rest test."""
    return prepared_task(COLORECTAL, carved(36, 4), classes=8)
