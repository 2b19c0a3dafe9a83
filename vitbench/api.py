"""What a plugin author reads: the contracts between backbones, tasks and protocols.

Shapes in all docstrings: B batch, N examples, S image side in pixels, D feature width, C classes. Images given to a
backbone are float (B, 3, S, S), RGB, already normalised with the mean and std that its InputSpec declares. Scores are
fractions in [0, 1].
"""

from __future__ import annotations

import typing
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from vitbench.core.job import PreprocessName
from vitbench.core.record import Trial, Weights

if TYPE_CHECKING:
    from torch import Tensor

Triple = tuple[float, float, float]
Pixels = NDArray[np.uint8]
Indices = NDArray[np.int64]
Labels = NDArray[np.int64]


# ---------------------------------------------------------------- backbones


@dataclass(frozen=True)
class InputSpec:
    """What a backbone expects: square images of `size_px`, pixels (x / 255 - mean) / std."""

    size_px: int
    mean: Triple
    std: Triple


@dataclass(frozen=True)
class Provenance:
    """Where weights come from; shown beside every score."""

    family: str = "unknown"
    weights: Weights = "unknown"
    pretrain_data: str = "unknown"
    source: str = ""
    weights_loaded: int | None = None
    weights_missing: int | None = None
    weights_unexpected: int | None = None
    trained_on: tuple[str, ...] = ()  # data sets whose labels the weights have seen
    pretrain_tpu_v3_core_days: float | None = None
    licence: str = ""
    pixel_warning: str = ""  # pixels are not normalised as these weights were trained


class BackboneModule(typing.Protocol):
    """What a registered backbone must be: a `torch.nn.Module` with these three names.

    Two more are read where they exist: `provenance: Provenance` (else the labels given to `register_backbone` are shown) and
    `at_resolution(size_px) -> nn.Module` (else the backbone keeps its own size). `vitbench check NAME` tests all of it.
    """

    input: InputSpec
    feature_dim: int

    def features(self, images: Tensor) -> Tensor:
        """Features (B, D) of images (B, 3, S, S): what a linear classifier would be put on."""
        ...


class Backbone(typing.Protocol):
    """A built backbone as tasks' and protocols' code sees it; every registered module is wrapped into one."""

    input: InputSpec
    feature_dim: int
    provenance: Provenance

    def features(self, images: Tensor) -> Tensor:
        """Features (B, D) of normalised images (B, 3, S, S)."""
        ...

    def at_resolution(self, size_px: int) -> Backbone:
        """The same weights for images of another side.

        Raises:
            UsageError: the architecture is tied to its size.
        """
        ...


# ---------------------------------------------------------------- data


class ImageSource(ABC):
    """Images in one canonical order, decoded on demand. Label rules are laid over it by tasks."""

    @abstractmethod
    def __len__(self) -> int: ...

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """A digest that changes whenever an image does."""

    @abstractmethod
    def read(self, indices: Sequence[int], *, fast_dct: bool = False) -> list[Pixels]:
        """RGB images (H, W, 3) uint8, in the order asked for. Safe to call from several threads.

        `fast_dct` asks for JPEGs to be decoded as TensorFlow does by default; what holds no JPEGs need not care.

        Raises:
            BadImageError: one cannot be decoded.
        """

    @abstractmethod
    def name(self, index: int) -> str:
        """What to call one image in messages and predictions."""


@dataclass(frozen=True, eq=False)
class Split:
    """Labelled examples: positions in a source with their labels, both (N,) int64."""

    source: ImageSource
    indices: Indices
    labels: Labels

    def __len__(self) -> int:
        return len(self.indices)

    def take(self, positions: Indices) -> Split:
        """The examples at these positions of this split, as copies that share no memory with it."""
        return Split(self.source, self.indices[positions].copy(), self.labels[positions].copy())


@dataclass(frozen=True)
class ScoreRule:
    """A metric: `correct(predictions (N,), split)` gives (N,) float, 1 right, 0 wrong, NaN not counted."""

    name: str
    correct: Callable[[Labels, Split], NDArray[np.float64]]


def _top1(predictions: Labels, split: Split) -> NDArray[np.float64]:
    return np.asarray(predictions == split.labels, dtype=np.float64)


TOP1 = ScoreRule("top1", _top1)


@dataclass(frozen=True)
class Task:
    """Data, splits, label rule and metric. Nothing is read until a split is called for.

    Only the runner calls `test`, once, after the protocol has handed over its frozen result. `skipped` names the images that
    were left out because they cannot be read, `departures` says where the data differ from the reference's.

    `first(part, n)` gives the first n examples of train or val without reading the rest; it says that their stored order is
    random, as in TensorFlow Datasets, so that they are a fair sample (without it the `1k` budget draws its own). `shots` is
    what N-shot budgets draw from, if that is not `train`. `flip` and `crop` tell whether a mirrored or a cropped image keeps
    its label: no recipe may do to a task's images what its task rules out.
    """

    class_names: tuple[str, ...]
    train: Callable[[], Split]
    val: Callable[[], Split]
    test: Callable[[], Split]
    rules: tuple[ScoreRule, ...] = (TOP1,)
    skipped: Callable[[], tuple[str, ...]] = tuple
    departures: Callable[[], tuple[str, ...]] = tuple
    first: Callable[[Literal["train", "val"], int], Split] | None = None
    shots: Callable[[], Split] | None = None
    flip: bool = True
    crop: bool = True
    version: str = ""


# ---------------------------------------------------------------- protocols


@dataclass(frozen=True)
class Adaptation:
    """All that a protocol gets: a backbone, what it may learn from, and the means to look at it. Test is not here.

    `features(split)` gives (N, D) float32 of the backbone as it came, from the shared store; `pixels(split, size_px)` gives
    (N, 3, S, S) as the job's preprocessing makes them, for the backbone's size or another; `normalise` turns those into what
    the backbone takes; `report(done, total)` moves the progress bar; `note(text)` leaves a remark in the record. Where `flip`
    or `crop` is false, the task's labels do not survive it: training must leave it out. `dataset` is the name the task is
    registered by, `resolution_px` what the suite asks for, if it does. `checkpoints` is a folder for what a long job must not
    lose; it is deleted when the job is done.
    """

    backbone: Backbone
    train: Split
    val: Split
    num_classes: int
    seed: int
    device: str
    dtype: str
    features: Callable[[Split], Tensor]
    pixels: Callable[..., Tensor]
    normalise: Callable[[Tensor], Tensor]
    note: Callable[[str], None]
    report: Callable[[int, int], None]
    flip: bool = True
    crop: bool = True
    dataset: str = ""
    resolution_px: int | None = None
    checkpoints: Path | None = None


@dataclass(frozen=True)
class Adapted:
    """The frozen outcome: a backbone, and a head from its features (N, D) to class scores (N, C)."""

    backbone: Backbone
    head: Callable[[Tensor], Tensor]
    trained_backbone: bool
    trials: tuple[Trial, ...] = ()
    images_forward: int = 0
    images_backward: int = 0


@dataclass(frozen=True)
class Effort:
    """Images that training looks at, at which size (None: the backbone's own)."""

    images_forward: int
    images_backward: int
    size_px: int | None = None


@dataclass(frozen=True)
class Protocol(ABC):
    """How a backbone is adapted to a task. Its dataclass fields are its options in a suite.

    `trains_backbone` says that all weights learn: such jobs are long, start first, and share no features with others.
    """

    default_preprocess: ClassVar[PreprocessName] = "squash"
    trains_backbone: ClassVar[bool] = False

    @abstractmethod
    def adapt(self, data: Adaptation) -> Adapted:
        """Learn from train, choose on val, and return the frozen result."""

    def effort(
        self, train: Split, val: Split, dataset: str, params: int, resolution_px: int | None
    ) -> Effort | None:
        """What adapting takes beyond features of train, val and test, for estimates; None if it is nothing to speak of."""
        del train, val, dataset, params, resolution_px
        return None

    @abstractmethod
    def depends_on_seed(self, budget: str) -> bool:
        """Whether another seed can give another score; if not, a suite runs one seed only."""


@dataclass
class Remarks:
    """Notes gathered while a job runs."""

    notes: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        """Keep a remark once."""
        if text not in self.notes:
            self.notes.append(text)
