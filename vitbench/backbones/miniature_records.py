"""What is known of each miniature's pre-training: written by reports/miniatures/pretrain.py beside the weights."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict

FOLDER = Path(__file__).with_name("miniatures")
FILE = FOLDER / "miniatures.json"
FAMILIES = {"vit": "ViT", "bit": "BiT", "hybrid": "Hybrid"}
LICENCE = "Apache-2.0"
PRETRAIN_DATA = "made images"  # reports/miniatures


class Pretraining(BaseModel):
    """How one checkpoint was made: FLOPs are counted, seconds are measured on the named device."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    family: str
    budget: int
    steps: int
    images_seen: int
    forward_flops_per_image: int
    pretrain_flops: int
    seconds: float
    device: str
    held_out_accuracy: float
    parameters: int
    sha256: str
    peak_learning_rate: float
    train_images: int
    first_losses: tuple[float, ...]

    @property
    def summary(self) -> str:
        """Its training in words."""
        return f"{self.images_seen:,} images in {self.seconds:.0f} s on {self.device}"


class _File(BaseModel):
    model_config = ConfigDict(extra="ignore")

    checkpoints: dict[str, Pretraining]


@cache
def _read() -> _File:
    return _File.model_validate_json(FILE.read_bytes())


def pretrainings() -> dict[str, Pretraining]:
    """All checkpoints by name, `vit-1` to `hybrid-4`: of each family the smallest budget first."""
    found = {name.removeprefix("mini-"): each for name, each in _read().checkpoints.items()}
    order = list(FAMILIES)
    return dict(sorted(found.items(), key=lambda item: (order.index(item[1].family), item[1].budget)))


def digest() -> str:
    """A digest that changes when any of the weights does."""
    return hashlib.sha256(FILE.read_bytes()).hexdigest()


def weights_file(name: str) -> Path:
    """The weights of a checkpoint."""
    return FOLDER / f"mini-{name}.safetensors"
