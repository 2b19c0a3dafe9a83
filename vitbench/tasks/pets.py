"""Oxford-IIIT Pet: as in the ViT paper (docs/protocols.md#vit-data-sets), and as in VTAB (docs/protocols.md#pets)."""

from vitbench.api import Task
from vitbench.core.registry import register_task
from vitbench.data.tfds.dataset import DataSet, declare
from vitbench.data.tfds.splits import held_out, prepared_task

PETS = declare(
    DataSet(
        "oxford_iiit_pet",
        names="c69058d9fa69",
        majors=(4, 3),  # 4.0.0: same images in the same order, 12 of them re-encoded (docs/protocols.md#pets)
        sizes={"train": 3680, "test": 3669},
        key=lambda example, _split: example.text("file_name"),
        title=lambda example: example.text("file_name"),
    )
)


@register_task(
    "oxford_iiit_pet",
    version=2,
    group="vit",
    data=PETS.content,
    dataset="oxford_iiit_pet",
    n_test=3669,
    source="ViT paper App. B.1.1; BV:configs/transfer.py:66-77",
)
def oxford_iiit_pet() -> Task:
    """37 breeds of cats and dogs; last 10 % of train used for validation."""
    return prepared_task(PETS, held_out(10), classes=37)


@register_task(
    "vtab/pets",
    version=2,
    group="natural",
    data=PETS.content,
    dataset="oxford_iiit_pet",
    n_test=3669,
    source="VTAB; TA:data/oxford_iiit_pet.py:28, 52-74",
)
def vtab_pets() -> Task:
    """37 breeds of cats and dogs; last 20 % of train used for validation."""
    return prepared_task(PETS, held_out(20), classes=37)
