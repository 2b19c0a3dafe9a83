"""What is known of the releases of data sets: draws, class counts, and which are lossless (docs/protocols.md#golden-keys)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vitbench.api import Indices
from vitbench.data.decode import JPEG_MAGIC


@dataclass(frozen=True)
class Draw:
    """The digest (see `digest_keys`) of the keys of `count` stored examples from `start` on."""

    split: str
    start: int
    count: int
    digest: str


# The 800 and the 200 where examples carry their key (docs/protocols.md#golden-keys). The keys of the others are positions
# in the release's files, which TFDS does not store.
KNOWN_DRAWS: dict[str, tuple[Draw, ...]] = {
    "cifar100": (Draw("train", 0, 800, "5b25ee0661c3"), Draw("train", 45_000, 200, "93377e439662")),
    "dsprites": (Draw("train", 0, 800, "54130b46ffd2"), Draw("train", 589_824, 200, "86005e8c0478")),
    "patch_camelyon": (Draw("train", 0, 800, "c1122cb7e413"), Draw("validation", 0, 200, "b3998b44bc84")),
    "clevr": (Draw("train", 0, 800, "5dc103310271"), Draw("train", 63_000, 200, "9a9150228251")),
    "eurosat/rgb": (Draw("train", 0, 800, "7dac90dec1b7"), Draw("train", 16_200, 200, "5c9a3ab3702f")),
    "resisc45": (Draw("train", 0, 800, "7c42d524f21f"), Draw("train", 18_900, 200, "2a2bb0da49b4")),
    "sun397/tfds": (Draw("train", 0, 800, "bbfe318c912b"), Draw("validation", 0, 200, "ed3f4079a4f3")),
}
# Examples per class, for splits in which all classes have the same number.
EVEN_CLASSES: dict[str, dict[str, int]] = {
    "cifar10": {"train": 5000, "test": 1000},
    "cifar100": {"train": 500, "test": 100},
    "caltech101": {"train": 30},
    "dtd": {"train": 40, "validation": 40, "test": 40},
    "oxford_flowers102": {"train": 10, "validation": 10},
    "resisc45": {"train": 700},
    "uc_merced": {"train": 100},
    "colorectal_histology": {"train": 625},
    "imagenet2012": {"validation": 50},
}
LOSSLESS = frozenset(
    {"cifar10", "cifar100", "svhn_cropped", "patch_camelyon", "clevr", "kitti", "dsprites", "smallnorb"}
)


LOSSY = (
    "{name} is stored as JPEG but released in a lossless format: this is a re-encoded copy, and its scores are not comparable "
    "(CIFAR-100 scores about 10 points lower). Prepare the original: vitbench data prepare {name}"
)


def is_jpeg(image: bytes) -> bool:
    """Whether an encoded image is a JPEG."""
    return image.startswith(JPEG_MAGIC)


def reencoded(name: str, image: bytes) -> str:
    """What an encoded image of a data set says against the copy: it was released without loss; '' if nothing."""
    return LOSSY.format(name=name) if name in LOSSLESS and is_jpeg(image) else ""


def uneven(name: str, split: str, labels: Indices) -> str:
    """What the labels of a whole split say against the copy: classes of other sizes than in the release; '' if nothing."""
    even = EVEN_CLASSES.get(name, {}).get(split)
    if even is None:
        return ""
    counts = np.bincount(labels)
    return (
        ""
        if (counts == even).all()
        else f"classes have {counts.min():,} to {counts.max():,} examples, not {even:,} each"
    )
