"""What the authors of published rows did, and which jobs here do the same step for step."""

from __future__ import annotations

import re
from collections.abc import Sequence

from vitbench.core.job import Component, Job, shots_of
from vitbench.protocols.recipes import tuning_of
from vitbench.published import PublishedRow

# Published protocols with the same method and amount of data: their rows may share a board with ours.
_SAME_METHOD = {
    ("finetune", "full"): ("finetune-full", "vtab-full-finetune"),
    ("finetune", "1k"): ("vtab-1k-finetune",),
    ("logistic_probe", "full"): ("linear-full",),
    ("ridge_probe", "full"): ("linear-full",),
    ("linear_probe", "full"): ("linear-full",),
    ("logistic_probe", "1k"): ("vtab-1k-linear",),
    ("linear_probe", "1k"): ("vtab-1k-linear",),
    ("ridge_probe", "1k"): ("vtab-1k-linear",),
    ("knn", "full"): ("knn-full",),
    ("own_head", "full"): ("imagenet-eval",),
}
# Rows whose authors followed one of our protocols step for step; by recipe, if the protocol has one.
_SAME_STEPS = {
    "vit": ("vit2021-",),
    "vit-table2": ("vit2021-",),
    "vit-released": ("vit-readme-",),
    "bit": ("bit2020-",),
    "bit-released": ("bit-readme-",),
    "vtab-light": ("vtab-lb-",),
    "vpt": ("vpt2022-vitb16-i21k-vtab1k-vpt-",),
    "vpt-linear": ("vpt2022-vitb16-i21k-vtab1k-linear",),
    "vpt-full": ("vpt2022-vitb16-i21k-vtab1k-full",),
    "noah": ("noah2022-vitb16-i21k-vtab1k-lora",),
    "logistic_probe": ("dinov2-t8-",),
    "dinov2": ("dinov2-card-",),
    "knn": ("dinov2-card-",),
    "ridge_probe": ("scalingvit2022-",),
    "own_head": ("timm-",),
}
# On ImageNet ViT's Table 2 is averaged and at 512 px, its Tables 5 and 6 are neither (docs/protocols.md#published-values).
_ON_IMAGENET = {"vit": ("vit2021-t5-", "vit2021-t6-"), "vit-table2": ("vit2021-t2-",)}
# Rows that were made with other settings than the rest of their table, according to their own notes.
_OTHER_SETTINGS = {("bit-readme-", "cifar10"), ("bit-readme-", "cifar100")}  # batch 128 at 0.001
_DROPOUT = re.compile(
    r"-do(\d\.\d)$"
)  # ends the ids of vit_jax's README, which has each network with two rates
# In dinov2-t8- these are mean per-class accuracies, not top-1.
_PER_CLASS = ("oxford_iiit_pet", "oxford_flowers102", "caltech101")
# Options of protocols and of timm backbones in those rows; any other option must be at its default.
_USUAL: dict[str, dict[str, object]] = {
    "knn": {"k": 20},  # of the results on DINOv2's model card
    "logistic_probe": {"c": "val", "values": 45, "standardise": False},
    "ridge_probe": {"l2": "default"},
    "timm": {
        "pretrained": True,
        "position_resize": "own",
        "activation": "own",
        "pooling": "own",
        "last_layers": 1,
    },
}
_FREE = (
    "label",
    "size_px",
    "init_seed",
    "replicas",
    "recipe",
)  # checked elsewhere, or without effect on scores
# Rows whose authors normalised pixels by other numbers than their weights were trained with (docs/protocols.md#noah-recipe).
_OWN_PIXELS = ("vpt2022-", "noah2022-")
IMAGENET_PIXELS = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


def methods_of(job: Job) -> tuple[str, ...]:
    """The published protocols whose rows may share a board with a job."""
    name, shots = job.protocol.name, shots_of(job.budget)
    if shots is not None:
        spelling = {"finetune": "finetune-{}-per-class", "ridge_probe": "fewshot-linear-{}"}.get(name, "")
        return (spelling.format(shots),) if spelling else ()
    if name == "finetune" and (tuning := tuning_of(job.protocol.options)) != "all":
        full, small = (
            ("linear-full", "vtab-1k-linear") if tuning == "head" else ("full-data-peft", "vtab-1k-peft")
        )
        return (small,) if job.budget == "1k" else (full,)
    return _SAME_METHOD.get((name, job.budget), ())


def tunes_as(row: PublishedRow, job: Job) -> bool:
    """Whether a row of parameter-efficient tuning has a job's method; of others that is clear from `protocol`."""
    return not row.protocol.endswith("-peft") or row.method == tuning_of(job.protocol.options)


def is_usual(component: Component, checked: Sequence[str] = ()) -> bool:
    """Whether every option has the value of published rows, but for those that are checked elsewhere."""
    usual = _USUAL.get(component.name, {})
    options = {name: value for name, value in component.options.items() if name not in (*_FREE, *checked)}
    return all(value == usual.get(name) for name, value in options.items())


def follows(row: PublishedRow, job: Job, dataset: str) -> bool:
    """Whether a row's authors followed a job's protocol and recipe step for step, on as much data."""
    recipe = str(job.protocol.options.get("recipe", "")) or job.protocol.name
    prefixes: tuple[str, ...] = _SAME_STEPS.get(recipe, ())
    if dataset.startswith("imagenet"):
        prefixes = _ON_IMAGENET.get(recipe, prefixes)
    if not row.id.startswith(prefixes or "\0") or row.protocol not in methods_of(job):
        return False  # of most rows, and soon known
    stated = [
        name for name, known in (("dropout", dropout_of(row) is not None), ("tune", row.method)) if known
    ]
    return is_usual(job.protocol, stated) and tunes_as(row, job)


def pixels_of(row: PublishedRow) -> dict[str, list[float]]:
    """The mean and std of a row's pixels as options of its backbone; none where they are those of the weights."""
    return IMAGENET_PIXELS if row.id.startswith(_OWN_PIXELS) else {}


def has_other_settings(row: PublishedRow, dataset: str) -> bool:
    """Whether a row says that this value was made with other settings than the rest of its table."""
    listed = any(row.id.startswith(prefix) and dataset == other for prefix, other in _OTHER_SETTINGS)
    return listed and not row.protocol.startswith("vtab-")


def dropout_of(row: PublishedRow) -> float | None:
    """The dropout rate of fine-tuning, where a source prints results with several; else that of the recipe."""
    found = _DROPOUT.search(row.id)
    return float(found.group(1)) if found else None


def is_top1(row: PublishedRow, dataset: str) -> bool:
    """Whether a row reports top-1 accuracy for a data set, as we do."""
    return not (row.id.startswith("dinov2-t8-") and dataset in _PER_CLASS)
