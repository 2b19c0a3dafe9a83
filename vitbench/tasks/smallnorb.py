"""SmallNORB: viewpoint of a toy (docs/protocols.md#smallnorb). First camera only; TFDS has already halved the azimuth."""

from vitbench.api import Task
from vitbench.core.registry import register_task
from vitbench.data.tfds.dataset import DataSet, declare
from vitbench.data.tfds.example import Example, stored
from vitbench.data.tfds.splits import Slice, Slices, prepared_task

TOYS_PER_CATEGORY = 10


def toy(example: Example) -> int:
    """The toy on the image, whose 972 views belong together: five categories have ten toys each."""
    return TOYS_PER_CATEGORY * stored("label_category")(example) + stored("instance")(example)


SMALLNORB = declare(
    DataSet(
        "smallnorb",
        majors=(2,),
        sizes={"train": 24_300, "test": 24_300},
        labels={"azimuth": stored("label_azimuth"), "elevation": stored("label_elevation"), "toy": toy},
        clusters="toy",
    )
)
# Val and test are the two halves of the official test set, whose toys differ from those of train (TA:data/smallnorb.py:55-63).
SLICES = Slices(Slice("train"), Slice("test", 0, 50), Slice("test", 50), Slice("train"))
AZIMUTHS = tuple(f"{degrees}°" for degrees in range(0, 360, 20))
ELEVATIONS = tuple(f"{degrees}°" for degrees in range(30, 75, 5))


@register_task(
    "vtab/smallnorb_azimuth",
    version=3,
    group="structured",
    data=SMALLNORB.content,
    dataset="smallnorb",
    n_test=12_150,
    clusters="toys",
    source="VTAB; TA:data/smallnorb.py:55-82",
)
def smallnorb_azimuth() -> Task:
    """Azimuth of the camera in 18 classes, 96 x 96 px greyscale; no random flip, which would change the azimuth."""
    # docs/protocols.md#flips-and-crops
    return prepared_task(SMALLNORB, SLICES, AZIMUTHS, label="azimuth", flip=False)


@register_task(
    "vtab/smallnorb_elevation",
    version=3,
    group="structured",
    data=SMALLNORB.content,
    dataset="smallnorb",
    n_test=12_150,
    clusters="toys",
    source="VTAB; TA:data/smallnorb.py:55-82",
)
def smallnorb_elevation() -> Task:
    """Elevation of the camera in 9 classes, 96 x 96 px greyscale."""
    return prepared_task(SMALLNORB, SLICES, ELEVATIONS, label="elevation")
