"""KITTI: distance of the nearest vehicle, in classes ordered by distance (docs/protocols.md#kitti)."""

from vitbench.api import Task
from vitbench.core.registry import register_task
from vitbench.data.tfds.dataset import DataSet, declare
from vitbench.data.tfds.splits import official, prepared_task
from vitbench.tasks.labels import kitti_distance as distance

KITTI = declare(
    DataSet(
        "kitti",
        majors=(3,),  # 3.1.0, 3.2.0 and 3.3.0 have the same splits
        sizes={"train": 6347, "validation": 423, "test": 711},
        labels={"distance": lambda e: distance(e.ints("objects/type"), e.floats("objects/location", 3))},
        key=lambda example, _split: example.text("image/file_name"),
        title=lambda example: example.text("image/file_name"),
    )
)
DISTANCES = ("vehicle within 8 m", "vehicle at 8 to 20 m", "vehicle beyond 20 m", "no vehicle")


@register_task(
    "vtab/kitti_distance",
    version=2,
    group="structured",
    data=KITTI.content,
    dataset="kitti",
    n_test=711,
    source="VTAB; TA:data/kitti.py:90-103",
)
def kitti_distance() -> Task:
    """Distance of the nearest car, van or truck, in 4 classes; about 375 x 1242 px, squashed to a square."""
    # docs/protocols.md#flips-and-crops
    return prepared_task(KITTI, official(), DISTANCES, label="distance", crop=False)
