"""CLEVR: number of objects and distance of the nearest one (docs/protocols.md#clevr). PNG with alpha channel."""

from vitbench.api import Task
from vitbench.core.registry import register_task
from vitbench.data.tfds.dataset import DataSet, declare
from vitbench.data.tfds.example import Example
from vitbench.data.tfds.splits import held_out, prepared_task
from vitbench.tasks.labels import clevr_count as count
from vitbench.tasks.labels import clevr_distance as distance


def _objects(example: Example) -> object:
    return example.floats("objects/pixel_coords", 3)


CLEVR = declare(
    DataSet(
        "clevr",
        majors=(3,),
        sizes={"train": 70_000, "validation": 15_000},  # the official test set has no annotations
        labels={"count": lambda e: count(_objects(e)), "distance": lambda e: distance(_objects(e))},  # type: ignore[arg-type]
        key=lambda example, _split: example.text("file_name"),
        title=lambda example: example.text("file_name"),
    )
)
SLICES = held_out(10, test="validation")  # TA:data/clevr.py:103-113
COUNTS = tuple(f"{n} objects" for n in range(3, 11))
DISTANCES = ("to 8", "8 to 8.5", "8.5 to 9", "9 to 9.5", "9.5 to 10", "over 10")


@register_task(
    "vtab/clevr_count",
    version=2,
    group="structured",
    data=CLEVR.content,
    dataset="clevr",
    n_test=15_000,
    source="VTAB; TA:data/clevr.py:32-34",
)
def clevr_count() -> Task:
    """Number of objects in the scene, 3 to 10; no random crop, which could remove an object."""
    # docs/protocols.md#flips-and-crops
    return prepared_task(CLEVR, SLICES, COUNTS, label="count", crop=False)


@register_task(
    "vtab/clevr_distance",
    version=2,
    group="structured",
    data=CLEVR.content,
    dataset="clevr",
    n_test=15_000,
    source="VTAB; TA:data/clevr.py:45-53",
)
def clevr_distance() -> Task:
    """Distance from the camera to the nearest object, in 6 classes."""
    # docs/protocols.md#flips-and-crops
    return prepared_task(CLEVR, SLICES, DISTANCES, label="distance", crop=False)
