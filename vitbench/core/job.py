"""The Job: one cell of a suite as plain data, and its key, a hash of everything its score depends on."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property, lru_cache
from pathlib import PurePath
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from vitbench.core.files import digest_bytes


class Frozen(BaseModel):
    """Base of all stored data: immutable; unknown fields and numbers that are not finite are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A changed copy without the cached properties, which pydantic would copy along."""
        copied = super().model_copy(update=update, deep=deep)
        for name in copied.__dict__.keys() - type(copied).model_fields.keys():
            del copied.__dict__[name]
        return copied


SCHEMA_VERSION = 1
KEY_LENGTH = 24  # 96 bits: no collisions in practice

Dtype = Literal["float32", "bfloat16"]
FeatureDtype = Literal["float32", "float16"]
PreprocessName = Literal[
    "squash",
    "squash_tf1",
    "fewshot",
    "resize_small",
    "dinov2_knn",
    "clip",
    "torchvision",
    "timm_eval",
    "centre_crop",
]
# Of presets whose pixels have changed: raise it when they do. It is part of a job's key.
PREPROCESS_VERSIONS: dict[str, int] = {"resize_small": 2, "centre_crop": 2}
# Presets that the next version drops: why, and what to use instead.
OLD_PREPROCESS: dict[str, str] = {
    "centre_crop": "it follows no reference, and the next version drops it; use `torchvision`, which differs in rounding, "
    "`dinov2_knn` or `clip`"
}

_BUDGET = re.compile(r"full|1k|[1-9][0-9]{0,5}-shot")


def _known_budget(budget: str) -> str:
    if not _BUDGET.fullmatch(budget):
        raise ValueError(f"unknown budget {budget!r}: write full, 1k, or N-shot such as 5-shot")
    return budget


Whole = Annotated[int, Field(ge=-(2**63), lt=2**63)]  # Parquet has no larger integers

Budget = Annotated[str, AfterValidator(_known_budget)]


def shots_of(budget: str) -> int | None:
    """The N of an 'N-shot' budget, else None."""
    return int(budget.removesuffix("-shot")) if budget.endswith("-shot") else None


MOST_BITS = 1023  # of an integer in options: it fits a float


def check_recordable(value: Any, name: str = "") -> Any:
    """The value, if JSON can hold it: every number in it is finite, every text is Unicode.

    Raises:
        ValueError: it cannot; the message names the field.
    """
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name or 'a value'} is {value}: only finite numbers can be recorded")
    if isinstance(value, int) and value.bit_length() > MOST_BITS:
        raise ValueError(f"{name or 'a value'} has {value.bit_length()} bits: too many to be recorded")
    if isinstance(value, str | PurePath) and not _is_unicode(str(value)):
        raise ValueError(f"{name or 'a value'} is {str(value)!a}: only text in UTF-8 can be recorded")
    if isinstance(value, Mapping):
        for key, inner in value.items():
            check_recordable(key, name)
            check_recordable(inner, f"{name}.{key}".lstrip("."))
    elif isinstance(value, list | tuple):
        for inner in value:
            check_recordable(inner, name)
    return value


def _is_unicode(text: str) -> bool:
    """Whether it has no half surrogate pairs: the name of a file that is not UTF-8 has one for each such byte."""
    return text.isascii() or not any("\ud800" <= c <= "\udfff" for c in text)


# Of a component or a trial.
Options = Annotated[dict[str, Any], AfterValidator(check_recordable)]


_as_json = json.JSONEncoder(sort_keys=True, ensure_ascii=True, default=str).encode
_value_as_json = lru_cache(maxsize=4096, typed=True)(_as_json)  # the jobs of a suite have few distinct values


def _without_places(name: str, value: Any, contents: Mapping[str, str]) -> Any:
    """An option's value; of a mapping of paths, the keys alone: their contents are known."""
    if not isinstance(value, Mapping):
        return value
    return {key: None if f"{name}.{key}" in contents else inner for key, inner in value.items()}


class Component(Frozen):
    """A registered backbone, task or protocol with every option spelled out.

    `contents` holds a digest of the file or folder behind each option that is a path, and of prepared data (`data`). Neither
    the path nor `label` is part of the identity, so a moved folder or a renamed row keeps its results.
    """

    name: str
    version: str
    label: str
    argument: str = ""
    options: Options = Field(default={})
    contents: dict[str, str] = Field(default={})

    @property
    def spec(self) -> str:
        """The name as in a suite: `timm:NAME` if it takes an argument."""
        return f"{self.name}:{self.argument}" if self.argument else self.name

    def identity(self) -> dict[str, Any]:
        """The part that a score depends on."""
        options = {
            key: _without_places(key, value, self.contents)
            for key, value in self.options.items()
            if key not in self.contents
        }
        argument = "" if "argument" in self.contents else self.argument
        return {
            "name": self.name, "version": self.version, "argument": argument, "options": options,
            "contents": self.contents,
        }  # fmt: skip

    @cached_property
    def identity_text(self) -> str:
        """Its identity as JSON, written once for all jobs that share the component."""
        return _as_json(self.identity())

    @cached_property
    def digest(self) -> str:
        """A short name for its identity."""
        return digest_bytes(self.identity_text.encode())[:8]


class JobLabels(NamedTuple):
    """The labels of a job."""

    backbone: str
    task: str
    protocol: str
    budget: str
    seed: str

    @property
    def title(self) -> str:
        """The labels in one line."""
        return f"{' · '.join(self[:4])} · seed {self.seed}"


class SuiteContext(Frozen):
    """The suite of a job, and the tasks and seeds of a complete row on the board. Not part of the key."""

    name: str
    tasks: tuple[str, ...]
    seeds: int = Field(ge=1, description="number of seeds that this cell asks for")
    published: tuple[str, ...] = Field(
        default=(), description="starts of names of published rows to show beside"
    )
    metric: str = Field(
        default="", description="metric of the task's column on the board; '': the task's own"
    )


# How a score is measured, apart from what on what. A new setting: a field here, of Job, and of the suite file.
MEASUREMENT = ("limit", "dtype", "feature_dtype", "resolution_px", "test_resolution_px", "preprocess")


class Job(Frozen):
    """One cell: everything a score depends on, as plain data."""

    suite: SuiteContext
    backbone: Component
    task: Component
    protocol: Component
    budget: Budget
    seed: Whole
    limit: Whole | None = None
    dtype: Dtype = "float32"
    feature_dtype: FeatureDtype = "float32"
    resolution_px: Whole | None = None
    test_resolution_px: Whole | None = None
    preprocess: PreprocessName = "squash"

    def with_seeds(self, seeds: Iterable[int]) -> Iterator[Job]:
        """This job under each of these seeds. The copies share all else, and it is not validated again: suites have many."""
        shared = {name: self.__dict__[name] for name in type(self).model_fields}
        given = self.model_fields_set
        for seed in seeds:
            yield Job.model_construct(given, **{**shared, "seed": seed})

    @property
    def measuring(self) -> dict[str, Any]:
        """The measurement settings: scores that differ in them are not compared."""
        return {name: getattr(self, name) for name in MEASUREMENT}

    @cached_property
    def key(self) -> str:
        """Hash of everything the score depends on; the name of the record's file."""
        parts = {
            "backbone": self.backbone.identity_text,
            "task": self.task.identity_text,
            "protocol": self.protocol.identity_text,
        }
        plain = {"schema": SCHEMA_VERSION, "budget": self.budget, "seed": self.seed, **self.measuring}
        if self.preprocess in PREPROCESS_VERSIONS:
            plain["preprocess"] = f"{self.preprocess} {PREPROCESS_VERSIONS[self.preprocess]}"
        parts |= {name: _value_as_json(value) for name, value in plain.items()}
        text = ", ".join(f'"{name}": {parts[name]}' for name in sorted(parts))  # as json.dumps joins them
        return hashlib.sha256(f"{{{text}}}".encode()).hexdigest()[:KEY_LENGTH]

    @property
    def labels(self) -> JobLabels:
        """The labels of the job's row and column."""
        return JobLabels(
            self.backbone.label, self.task.label, self.protocol.label, self.budget, str(self.seed)
        )

    @property
    def board_position(self) -> tuple[Any, ...]:
        """Its labels and measurement settings. A newer result replaces an older one of the same position."""
        return (self.labels, *self.measuring.values())

    @property
    def title(self) -> str:
        """The labels in a line, for progress and messages."""
        return self.labels.title


def backbone_key(job: Job) -> str:
    """The key of a built backbone: its identity and image size."""
    return f"{job.backbone.identity_text}@{job.resolution_px}"
