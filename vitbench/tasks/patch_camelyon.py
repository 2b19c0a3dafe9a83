"""PatchCamelyon: whether the centre of a tissue patch contains tumour (docs/protocols.md#patchcamelyon)."""

from vitbench.api import Task
from vitbench.core.registry import register_task
from vitbench.data.tfds.dataset import DataSet, declare
from vitbench.data.tfds.splits import official, prepared_task

PATCH_CAMELYON = declare(
    DataSet(
        "patch_camelyon",
        majors=(2,),
        sizes={"train": 262_144, "validation": 32_768, "test": 32_768},
        key=lambda example, _split: example.text("id"),  # train_%d, valid_%d, test_%d
        title=lambda example: example.text("id"),
    )
)


@register_task(
    "vtab/patch_camelyon",
    version=2,
    group="specialized",
    data=PATCH_CAMELYON.content,
    dataset="patch_camelyon",
    n_test=32_768,
    source="VTAB; TA:data/patch_camelyon.py",
)
def patch_camelyon() -> Task:
    """Tumour or no tumour, 96 x 96 px patches of lymph nodes."""
    return prepared_task(PATCH_CAMELYON, official(), classes=2)
