"""dSprites: position and orientation of a shape (docs/protocols.md#dsprites). Pixels 0 and 1 are scaled to 0 and 255."""

from vitbench.api import Task
from vitbench.core.registry import register_task
from vitbench.data.tfds.dataset import DataSet, declare
from vitbench.data.tfds.example import Example
from vitbench.data.tfds.order import Key
from vitbench.data.tfds.splits import carved, prepared_task
from vitbench.tasks.labels import dsprites_bins

POSITIONS, ORIENTATIONS = 32, 40
LATENTS = (("scale", 6), ("orientation", ORIENTATIONS), ("x_position", POSITIONS), ("y_position", POSITIONS))


def _key(example: Example, _split: str) -> Key:
    """Return the row of the HDF5 file: shape varies slowest, y fastest (docs/protocols.md#dsprites)."""
    row = example.ints("label_shape")[0]
    for name, count in LATENTS:
        row = row * count + example.ints(f"label_{name}")[0]
    return row


DSPRITES = declare(
    DataSet(
        "dsprites",
        majors=(2,),
        sizes={"train": 737_280},
        labels={
            "location": lambda e: dsprites_bins(e.ints("label_x_position")[0], POSITIONS),
            "orientation": lambda e: dsprites_bins(e.ints("label_orientation")[0], ORIENTATIONS),
        },
        key=_key,
        ink=255,  # TA:data/dsprites.py:95-99
    )
)
BINS = tuple(map(str, range(16)))


@register_task(
    "vtab/dsprites_location",
    version=2,
    group="structured",
    data=DSPRITES.content,
    dataset="dsprites",
    n_test=73_728,
    source="VTAB; TA:data/dsprites.py:67-99",
)
def dsprites_location() -> Task:
    """Horizontal position of the shape in 16 classes, 64 x 64 px; split 80/10/10."""
    # docs/protocols.md#flips-and-crops
    return prepared_task(DSPRITES, carved(80, 10), BINS, label="location", flip=False, crop=False)


@register_task(
    "vtab/dsprites_orientation",
    version=2,
    group="structured",
    data=DSPRITES.content,
    dataset="dsprites",
    n_test=73_728,
    source="VTAB; TA:data/dsprites.py:67-99",
)
def dsprites_orientation() -> Task:
    """Orientation of the shape in 16 classes, 64 x 64 px; split 80/10/10."""
    # docs/protocols.md#flips-and-crops
    return prepared_task(DSPRITES, carved(80, 10), BINS, label="orientation", flip=False)
