"""What stands in the way of measuring a published row here: its weights, its protocol, its data, or a departure of ours."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from vitbench.data.tfds.dataset import DATA_SETS
from vitbench.published import PublishedRow

Kind = Literal["weights", "protocol", "data", "not stated", "departure"]


@dataclass(frozen=True)
class Obstacle:
    """One reason why a value cannot be measured here and compared, as a sentence."""

    kind: Kind
    what: str


JFT = re.compile(r"JFT-(300M|3B)")
# Of rows that name no weights, by their ids; the first that matches (docs/reproduce.md#weights).
_WEIGHTS = (
    (r"^vit2021-t2-noisy-student", "the row is quoted from arXiv 1911.04252, and names no weights"),
    (
        r"^vit2021-t5-.*-i1k$",
        "the ViT paper's networks pre-trained on ImageNet-1k alone were not released",
    ),
    (
        r"^bit2020-t2-bit-s-",
        "BiT-S is released as a file only, which timm does not have (measure it with `npz:BiT-S-R152x4.npz`): published "
        "values are compared for weights that timm names",
    ),
    (r"^bit2020-t[45]-", "the ResNets of BiT's study of normalisation were not released under their names"),
    (r"^vtab-lb-from-scratch-", "the network starts from random weights, which are not fixed by any file"),
    (r"^vtab-lb-", "the weights are a TensorFlow Hub module (tfhub.dev/vtab), which vitbench cannot read"),
    (r"-align-web", "ALIGN's EfficientNet-L2 was not released"),
)
# Of methods of parameter-efficient tuning that neither peft nor vitbench has.
_TUNINGS = {
    "ssf": "SSF, a scale and a shift behind every layer, is not among the methods of tuning",
    "adapter": "NOAH's adapters, a bottleneck behind the MLP, are not among the methods of tuning",
    "noah": "NOAH's search among combined methods is not implemented",
    "bias": "VPT's code has no configuration for its search for biases",
}
# Of protocols that no component of ours follows (docs/protocols.md#published-values has the vocabulary).
_PROTOCOLS = {
    "imagenet-eval": "a released classifier is scored as it is, while vitbench always fits a head of its own",
    "imagenet-scratch": "the network is trained from scratch, while vitbench evaluates networks that are trained already",
    "vtab-1k-finetune-tuned": "a search of hyper-parameters for each task is not implemented",
    "finetune-full-short": "no recipe has vit_jax's schedules of 500 and 1,000 steps for CIFAR",
}
# Of sources whose training no recipe or probe of ours follows, by the beginnings of their rows' ids.
_SOURCES = (
    ("augreg2022-", "AugReg's fine-tuning is not among the recipes"),
    ("mixer2021-", "the fine-tuning of the Mixer paper, or of the papers that it quotes, is not among the recipes"),
    ("vpt2022-", "VPT's recipes here are those for ViT-B/16 of ImageNet-21k on VTAB; other networks and data have others"),
    ("distill2022-", "the network is the product of distillation, which is not implemented"),
    ("big-vision-transfer-", "big_vision's own transfer settings are not among the recipes"),
)  # fmt: skip


def without_weights(row: PublishedRow) -> Obstacle:
    """Why there are no weights to load for a row that no timm name is known for."""
    for pattern, what in _WEIGHTS:
        if re.search(pattern, row.id):
            return Obstacle("weights", what)
    if found := JFT.search(row.pretrain_data):
        return Obstacle("weights", f"weights pre-trained on {found.group()} were not released")
    return Obstacle("weights", "no weights of timm are named for this row")


def without_protocol(row: PublishedRow) -> Obstacle:
    """Why no protocol of ours is the one that a row's authors followed."""
    if row.method in _TUNINGS:
        return Obstacle("protocol", _TUNINGS[row.method])
    for beginning, what in _SOURCES:
        if row.protocol not in _PROTOCOLS and row.id.startswith(beginning):
            return Obstacle("protocol", what)
    what = _PROTOCOLS.get(
        row.protocol, f"no protocol of vitbench follows {row.source.citation} step for step"
    )
    return Obstacle("protocol", what)


def not_prepared(task: str, test_set: str) -> Iterator[Obstacle]:
    """That a further test set of a task is not on this machine, if so; the task itself can be measured without it."""
    wanted = [data for data in DATA_SETS.values() if data.test_set == f"{task}/{test_set}"]
    missing = [data.name for data in wanted if data.newest() is None]
    if missing:
        what = f"the test set {test_set} of {task} is not prepared here: vitbench data prepare {missing[0]}"
        yield Obstacle("data", what)


def without_task(dataset: str) -> Obstacle:
    """Why no task of ours measures a data set of a row, or a mean over data sets."""
    if re.search(r"^avg|_mean$", dataset):
        return Obstacle(
            "data", f"{dataset} is a mean over data sets of which some are not among vitbench's tasks"
        )
    return Obstacle("data", f"{dataset}, as the source splits it, is not among vitbench's tasks")
