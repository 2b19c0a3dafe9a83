"""The Record: the score or failure of one job and everything needed to judge it; typed, versioned, to and from JSON."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from vitbench.core.cost import OUTSIDE as OUTSIDE
from vitbench.core.cost import Cost as Cost
from vitbench.core.cost import Count
from vitbench.core.cost import Extraction as Extraction
from vitbench.core.job import Frozen, Job, Options

Weights = Literal["pretrained", "untrained", "none", "unknown"]


class LoadReport(Frozen):
    """What became of the arrays in a checkpoint. Long lists of names are shortened to their first part and a count.

    A weight that features depend on and that the checkpoint lacks is an error, so none is missing here.
    """

    in_file: Count = Field(description="arrays in the checkpoint, or in the part of it that was taken")
    used: Count = Field(description="weights and buffers of the backbone that were loaded from it")
    left_out: tuple[str, ...] = Field(
        default=(), description="arrays of heads and of parts used in training only"
    )
    unused: tuple[str, ...] = Field(default=(), description="all other arrays that the backbone does not use")
    initialised: tuple[str, ...] = Field(
        default=(), description="buffers that the checkpoint lacks and that no feature needs"
    )
    taken: str = Field(default="", description="what was taken where there were several candidates, and why")


class BackboneFacts(Frozen):
    """The backbone that was evaluated, as read from the built model, not from its name."""

    family: str
    weights: Weights
    pretrain_data: str
    source: str
    params: Count
    feature_dim: Count
    size_px: Count
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    weights_digest: str
    load: LoadReport | None = Field(
        default=None, description="None: nothing is known of how the weights were loaded"
    )
    trained_on: tuple[str, ...] | None = Field(default=(), description="None: not known")
    pretrain_tpu_v3_core_days: Annotated[float, Field(ge=0)] | None = None
    pretrain_flops: Annotated[float, Field(ge=0)] | None = Field(
        default=None, description="as counted by whoever trained the weights"
    )
    licence: str = ""


class Duplicates(Frozen):
    """Images that are equal to one of another split, among those that the job used."""

    compared: Literal["pixels", "files"] = Field(
        description="decoded pixels; or, of many images, their files as stored"
    )
    test_in_train: int = Field(ge=0, description="test images that are training images too")
    test_in_val: int = Field(ge=0, description="test images that are validation images too")
    val_in_train: int = Field(ge=0, description="validation images that are training images too")
    examples: tuple[tuple[str, str], ...] = Field(default=(), description="some pairs of names")

    @property
    def text(self) -> str:
        """The counts and a pair in words; '' if no image is in two splits."""
        counts = {
            "test images are training images": self.test_in_train,
            "test images are validation images": self.test_in_val,
            "validation images are training images": self.val_in_train,
        }
        found = ", ".join(f"{n:,} {what}" for what, n in counts.items() if n)
        return (
            f"{found}, such as {self.examples[0][0]} = {self.examples[0][1]}"
            if found and self.examples
            else found
        )


class DataFacts(Frozen):
    """The data that were trained and scored on."""

    group: str
    dataset: str = ""
    num_classes: Count
    n_train: Count
    n_val: Count
    n_test: Count
    fingerprints: dict[str, str]
    skipped: tuple[str, ...] = ()
    departures: tuple[str, ...] = ()
    version: str = Field(default="", description="version of the prepared data set")
    duplicates: Duplicates | None = Field(default=None, description="None: splits were not compared")


class Confusion(Frozen):
    """The confusion matrix on the test images.

    Up to 12 classes: their names and all counts, `matrix[true][predicted]`. More: only the most frequent confusions, as
    (true class, predicted class, count).
    """

    classes: tuple[str, ...] = ()
    matrix: tuple[tuple[Count, ...], ...] = ()
    mistakes: tuple[tuple[str, str, Count], ...] = ()


class Env(Frozen):
    """The environment that the job ran in."""

    python: str
    platform: str
    device: str
    threads: Count
    packages: dict[str, str]
    git_commit: str


Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class Metric(Frozen):
    """A score as a fraction in [0, 1] over n examples, with its 95 % Wilson interval over test images or their clusters."""

    value: Fraction
    ci_low: Fraction
    ci_high: Fraction
    n: Count = Field(ge=1)
    clusters: Annotated[Count, Field(ge=1)] | None = Field(
        default=None, description="of test images that belong together; None: they do not"
    )


FurtherName = Literal["top5", "mean_per_class", "nll", "ece"]
# What the class scores of a protocol are. Logits and votes give probabilities, by softmax or divided by their sum.
ScoreKind = Literal["logits", "votes", "regression", "unknown"]


class FurtherMetric(Frozen):
    """A metric beside the task's own (docs/protocols.md#further-metrics), over the n test images that count.

    A fraction in [0, 1], but the negative log-likelihood, which is in nats. There is an interval only where one is known.
    """

    value: Annotated[float, Field(ge=0)] | None = Field(default=None, description="None: `note` says why")
    ci_low: Fraction | None = None
    ci_high: Fraction | None = None
    n: Count
    note: str = Field(default="", description="why there is no value, or what the value leaves out")
    bins: tuple[tuple[Count, Fraction, Count], ...] = Field(
        default=(), description="of the calibration error: images, their mean confidence, how many are right"
    )


class TestSetFacts(Frozen):
    """A further test set of the task's classes; its score is in the record's metrics, by its name."""

    __test__: ClassVar[bool] = False  # its name begins like that of a test

    n: Count = Field(description="images, of all parts")
    classes: Count = Field(description="among which answers were chosen")
    dataset: str = ""
    version: str = Field(default="", description="of a prepared data set")
    fingerprints: dict[str, str] = Field(description="of the images, by part; '' where it has none")
    departures: tuple[str, ...] = ()
    in_distribution: Metric | None = Field(
        default=None,
        description="of the task's own test images of the same classes, chosen among these; None: it has all of them",
    )
    parts: dict[str, Metric] = Field(default={}, description="scores of its parts, if it has several")
    relative_error: Annotated[float, Field(ge=0)] | None = Field(
        default=None,
        description="mean over groups of parts of their error divided by the reference network's",
    )
    further: dict[FurtherName, FurtherMetric] = Field(default={})
    predictions_sha256: str = ""


class Trial(Frozen):
    """One setting of a selection: its options, and its score on the split that it was judged on."""

    options: Options
    split: Literal["val", "train"]
    metric: str
    value: float | None
    chosen: bool
    note: str = ""
    certificate: dict[str, float] = Field(default={}, description="how close its solver came to the optimum")
    curve: dict[str, tuple[float | None, ...]] = Field(default={}, description="its training loss, by step")


class Check(Frozen):
    """One item of the conformance list: whether it holds, None if that is not known; `reason` says why not."""

    item: str
    ok: bool | None
    reason: str = ""


class Failure(Frozen):
    """Why a job has no score."""

    kind: str
    message: str
    where: str = ""
    phase: str = Field(default="", description="what was being done: build, data, adapt or test")


class Record(Frozen):
    """The result of one Job: a score or a failure, and everything needed to judge it."""

    schema_version: Literal[1] = 1
    key: str
    job: Job
    status: Literal["ok", "failed"]
    metrics: dict[str, Metric] = Field(default={})
    further: dict[FurtherName, FurtherMetric] = Field(
        default={}, description="empty in records of version 0.2.0"
    )
    test_sets: dict[str, TestSetFacts] = Field(
        default={}, description="further ones, scored from the same model"
    )
    score_kind: ScoreKind = "unknown"
    trials: tuple[Trial, ...] = ()
    backbone: BackboneFacts | None = None
    data: DataFacts | None = None
    preprocess: str = ""
    conformance: tuple[Check, ...] = ()
    notes: tuple[str, ...] = ()
    cost: Cost | None = None
    env: Env
    failure: Failure | None = None
    predictions_sha256: str = ""
    scores_sha256: str = Field(default="", description="of the file of class scores, if they were kept")
    confusion: Confusion | None = None
    worst: tuple[Count, ...] = Field(
        default=(), description="positions of wrong test examples, most confident errors first"
    )
    created: str

    @property
    def conformant(self) -> bool:
        """Whether every item of the conformance list is known to hold."""
        return (
            self.status == "ok"
            and bool(self.conformance)
            and all(check.ok is True for check in self.conformance)
        )
