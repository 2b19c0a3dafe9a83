"""The contracts that plugins are written against: backbones, tasks, protocols and logs.

Shapes in all docstrings: B batch, N examples, S image size in pixels, D feature width, C classes. A backbone is given float
images (B, 3, S, S), RGB, normalised with the mean and std that its InputSpec declares. Scores are fractions in [0, 1].
"""

from __future__ import annotations

import typing
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from vitbench.core.effort import Effort as Effort
from vitbench.core.further_set import TestSet as TestSet
from vitbench.core.image_input import EvaluationTransform as EvaluationTransform
from vitbench.core.image_input import InputSpec as InputSpec
from vitbench.core.image_input import Triple as Triple
from vitbench.core.job import Dtype, Job, PreprocessName
from vitbench.core.own_classifier import OwnClassifier as OwnClassifier
from vitbench.core.provenance import Provenance as Provenance
from vitbench.core.record import ScoreKind, Trial
from vitbench.core.run_log import RunLog as RunLog
from vitbench.core.split import TOP1 as TOP1
from vitbench.core.split import ImageSource as ImageSource
from vitbench.core.split import Indices as Indices
from vitbench.core.split import Labels as Labels
from vitbench.core.split import Pixels as Pixels
from vitbench.core.split import ScoreRule as ScoreRule
from vitbench.core.split import Split as Split
from vitbench.core.tokens import Tokens as Tokens

if TYPE_CHECKING:
    from torch import Tensor

Part = Literal["train", "val"]


class BackboneModule(typing.Protocol):
    """The interface of a registered backbone: a `torch.nn.Module` with these three names. `vitbench check` tests it.

    Optional: `provenance: Provenance` (default: the labels given to `register_backbone`), `at_resolution(size_px)` (default:
    its own image size only), `trainable()`, the network that fine-tuning starts from (default: itself), and, by default none,
    `classifier() -> OwnClassifier`, the weights' own, and `evaluation: EvaluationTransform`, for `preprocess: timm_eval`.

    Also optional, and called by `attentive_probe` and `linear_probe`: `tokens(images) -> (B, T, D)`, the patch tokens after the
    final norm, or `last_blocks(images, count) -> tuple[Tokens, ...]`, those of the last `count` blocks, each after that norm,
    told apart as class token, registers (of any other prefix token, too) and patches.
    """

    input: InputSpec
    feature_dim: int

    def features(self, images: Tensor) -> Tensor:
        """Features (B, D) of images (B, 3, S, S): the input of a linear classifier."""
        ...


class Backbone(typing.Protocol):
    """A built backbone as protocols see it. Every registered module is wrapped into one."""

    input: InputSpec
    feature_dim: int
    provenance: Provenance

    def features(self, images: Tensor) -> Tensor:
        """Features (B, D) of normalised images (B, 3, S, S)."""
        ...

    def at_resolution(self, size_px: int) -> Backbone:
        """The same weights at another image size.

        Raises:
            UsageError: the architecture works at one image size only.
        """
        ...


class Task(ABC):
    """Data, splits, label rule and metrics. No image is read before a split is asked for.

    Only the engine calls `test`, once, after the protocol has returned its frozen result. The first of `rules` is the board's
    metric. `flip` and `crop` say whether a mirrored or cropped image keeps its label; where it does not, no recipe mirrors or
    crops the task's images. `version`: of a prepared data set. `random_order`: the first n examples are a fair sample, in
    TFDS's order, which the `1k` budget takes; else it draws.
    """

    class_names: tuple[str, ...]
    rules: tuple[ScoreRule, ...] = (TOP1,)
    flip: bool = True
    crop: bool = True
    random_order: bool = False
    version: str = ""
    further: tuple[TestSet, ...] = ()

    @abstractmethod
    def train(self) -> Split:
        """The training split."""

    @abstractmethod
    def val(self) -> Split:
        """The validation split, which selection is made on."""

    @abstractmethod
    def test(self) -> Split:
        """The test split, which is scored."""

    def test_sets(self) -> tuple[TestSet, ...]:
        """Further test sets of the task's classes, each scored from the same adapted model; opened after `test`."""
        return self.further

    def shots(self) -> Split:
        """The examples that N-shot budgets draw from, in the order that the reference's draws go by."""
        return self.train()

    def first(self, part: Part, n: int) -> Split:
        """The first n examples of train or val; override it where they can be read without the rest."""
        split = self.train() if part == "train" else self.val()
        return split.take(np.arange(min(n, len(split))))

    def skipped(self) -> tuple[str, ...]:
        """Names of images that are left out because they cannot be decoded."""
        return ()

    def departures(self) -> tuple[str, ...]:
        """How the data differ from the reference's."""
        return ()

    def remarks(self) -> tuple[str, ...]:
        """What a reader must know of the data, such as classes without a test image; said before anything is trained."""
        return ()

    @staticmethod
    def of(class_names: Sequence[str], splits: Callable[[], tuple[Split, Split, Split]]) -> Task:
        """A task of three splits that are made together: train, val and test."""
        return _ThreeSplits(tuple(class_names), splits)


class _ThreeSplits(Task):
    def __init__(self, names: tuple[str, ...], splits: Callable[[], tuple[Split, Split, Split]]) -> None:
        self.class_names, self._splits = names, splits

    def train(self) -> Split:
        return self._splits()[0]

    def val(self) -> Split:
        return self._splits()[1]

    def test(self) -> Split:
        return self._splits()[2]


@dataclass(frozen=True, kw_only=True)
class Adaptation(ABC):
    """Everything a protocol is given: a backbone, the labelled data, and methods to read them with. The test split is not here.

    Where `flip` or `crop` is false, labels do not survive it, and training must leave it out. `task` is its registered name,
    `resolution_px` the suite's image size, if any. `checkpoints` is a folder for the state of a long job, deleted afterwards.
    """

    backbone: Backbone
    train: Split
    val: Split
    num_classes: int
    class_names: tuple[str, ...] = ()
    seed: int = 0
    device: str = "cpu"
    dtype: Dtype = "float32"
    task: str = ""
    flip: bool = True
    crop: bool = True
    resolution_px: int | None = None
    checkpoints: Path | None = None

    @abstractmethod
    def features(self, split: Split) -> Tensor:
        """Features (N, D) float32 of the backbone as it was loaded, on the device; extracted once for all jobs."""

    @abstractmethod
    def pixels(self, split: Split, size_px: int | None = None) -> Tensor:
        """Images (N, 3, S, S) after the job's preprocessing, at the backbone's image size or another, on the device."""

    @abstractmethod
    def normalise(self, images: Tensor) -> Tensor:
        """Such images with the backbone's mean and std applied: its input."""

    @abstractmethod
    def note(self, text: str) -> None:
        """Add a note to the record."""

    @abstractmethod
    def report(self, done: int, total: int, stage: str = "") -> None:
        """Show `done` of `total` as progress, of a stage such as "trial 2 of 12, training step"; total 0: the stage alone."""


@dataclass(frozen=True)
class Adapted:
    """The frozen result: a backbone, and a head from its features (N, D) to class scores (N, C), the highest of which wins."""

    backbone: Backbone
    head: Callable[[Tensor], Tensor]
    trained_backbone: bool
    trials: tuple[Trial, ...] = ()
    images_forward: int = 0
    images_backward: int = 0
    trained_parameters: int | None = None  # None: not stated


@dataclass(frozen=True)
class Protocol(ABC):
    """How a backbone is adapted to a task. Its dataclass fields are its options in a suite."""

    default_preprocess: ClassVar[PreprocessName] = "squash"
    trains_backbone: ClassVar[bool] = False  # weights: its jobs are long, start first, share no features
    score_kind: ClassVar[ScoreKind] = "unknown"  # or logits (-1e30: minus infinity), votes, regression

    @abstractmethod
    def adapt(self, data: Adaptation) -> Adapted:
        """Train on train, select on val, and return the frozen result."""

    def effort(
        self, train: Split, val: Split, task: str, params: int, resolution_px: int | None
    ) -> Effort | None:
        """The cost of adapting beyond features of train, val and test, for estimates; None where it is negligible."""
        del train, val, task, params, resolution_px
        return None

    def step_flops(self, built: Callable[[], Backbone]) -> int | None:
        """FLOPs of training on one image of the backbone, built without weights, for estimates; None: three forward passes."""
        del built
        return None

    def reads_val(self) -> bool:
        """Whether features of the validation split are read, for estimates."""
        return True

    def departures(self, job: Job) -> tuple[str, ...] | None:
        """How a job with these options differs from the protocol's reference, for conformance; None if it follows none."""
        del job
        return None

    @classmethod
    def other_preprocess(cls, job: Job) -> tuple[str, ...]:
        """The departure of a job whose preprocessing is not `default_preprocess`, the reference's."""
        given, wanted = job.preprocess, cls.default_preprocess
        return () if given == wanted else (f"preprocessing `{given}` instead of `{wanted}`",)

    @abstractmethod
    def depends_on_seed(self, budget: str) -> bool:
        """Whether the score depends on the seed; where it does not, a suite runs one seed only."""

    def warm_up(self, device: str) -> None:  # noqa: B027  most protocols have nothing to do here
        """Do what only a process's first job would do, such as imports, before the first job's `adapt` is timed."""
