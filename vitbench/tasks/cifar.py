"""CIFAR-10 and CIFAR-100: as in the ViT paper (docs/protocols.md#vit-data-sets), and as in VTAB (docs/protocols.md#cifar)."""

from vitbench.api import Task
from vitbench.core.registry import register_task
from vitbench.data.tfds.dataset import DataSet, declare
from vitbench.data.tfds.example import Example
from vitbench.data.tfds.order import Key
from vitbench.data.tfds.splits import held_out, prepared_task

SIZES = {"train": 50_000, "test": 10_000}


def _key(example: Example, split: str) -> Key:
    """Return the position in the binary release, which ends the example's id (TFDS:image_classification/cifar.py:124-135)."""
    return int(example.text("id").removeprefix(f"{split}_"))


CIFAR10, CIFAR100 = (
    declare(DataSet(name, majors=(3,), sizes=SIZES, key=_key, title=lambda example: example.text("id")))
    for name in ("cifar10", "cifar100")
)


@register_task(
    "cifar10",
    version=2,
    group="vit",
    data=CIFAR10.content,
    dataset="cifar10",
    n_test=10_000,
    source="ViT paper App. B.1.1; BV:configs/transfer.py:66-77",
)
def cifar10() -> Task:
    """10 object classes, 32 x 32 px; last 2 % of train used for validation."""
    return prepared_task(CIFAR10, held_out(2), classes=10)


@register_task(
    "cifar100",
    version=2,
    group="vit",
    data=CIFAR100.content,
    dataset="cifar100",
    n_test=10_000,
    source="ViT paper App. B.1.1; BV:configs/transfer.py:66-77",
)
def cifar100() -> Task:
    """100 object classes, 32 x 32 px; last 2 % of train used for validation."""
    return prepared_task(CIFAR100, held_out(2), classes=100)


@register_task(
    "vtab/cifar100",
    version=2,
    group="natural",
    data=CIFAR100.content,
    dataset="cifar100",
    n_test=10_000,
    source="VTAB; TA:data/cifar.py:57-67",
)
def vtab_cifar100() -> Task:
    """100 object classes, 32 x 32 px; last 10 % of train used for validation."""
    return prepared_task(CIFAR100, held_out(10), classes=100)
