"""Street View House Numbers, cropped digits; the split `extra` is not used (docs/protocols.md#svhn)."""

from vitbench.api import Task
from vitbench.core.registry import register_task
from vitbench.data.tfds.dataset import DataSet, declare
from vitbench.data.tfds.splits import held_out, prepared_task

SVHN = declare(DataSet("svhn_cropped", majors=(3,), sizes={"train": 73_257, "test": 26_032}))


@register_task(
    "vtab/svhn",
    version=2,
    group="natural",
    data=SVHN.content,
    dataset="svhn_cropped",
    n_test=26_032,
    source="VTAB; TA:data/svhn.py:71-88",
)
def svhn() -> Task:
    """Digits of house numbers, 32 x 32 px; digit 0 is class 0."""
    return prepared_task(SVHN, held_out(10), classes=10)
