"""The fields of a suite file, and pydantic's errors as messages with file and line."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from typing import Annotated, Any, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from vitbench.core.errors import Problem, nearest
from vitbench.core.job import Budget, Dtype, FeatureDtype, PreprocessName
from vitbench.core.metric_names import BoardMetric
from vitbench.core.record import FurtherName
from vitbench.core.registry import BACKBONES, PROTOCOLS, TASKS, Registry
from vitbench.suite.yaml_lines import KeyPath, Located


def _known_metric(value: Any) -> Any:
    """The name of a metric that boards can show.

    Raises:
        ValueError: it is none.
    """
    names = get_args(BoardMetric)
    if value is None or value in names:
        return value
    if value in get_args(FurtherName):
        raise ValueError(f"{value!r} is not an accuracy: a board ranks by one of {', '.join(names)}")
    near = " or ".join(nearest(str(value), names))
    hint = f"; did you mean {near}" if near else ""
    raise ValueError(f"unknown metric {value!r}{hint}; a board shows one of {', '.join(names)}")


ShownMetric = Annotated[BoardMetric | None, BeforeValidator(_known_metric)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
KINDS: dict[str, Registry] = {"backbones": BACKBONES, "tasks": TASKS, "protocols": PROTOCOLS}


class _Entry(BaseModel):
    """An entry of a list; keys other than these fields are options of the component."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str = Field(min_length=1, max_length=300)

    @property
    def spec(self) -> str:
        """The registered name, with its argument if it has one."""
        return self.name

    @property
    def options(self) -> dict[str, Any]:
        """The options of the component itself."""
        return dict(self.model_extra or {})


class BackboneEntry(_Entry):
    """A backbone: its spec (`timm:NAME`, the name of a plugin), a label for the leaderboard, and its options."""

    label: str | None = Field(None, min_length=1, max_length=100)


class TaskEntry(_Entry):
    """A registered task, or a name of your choice for a task made from a `source` such as `folder`."""

    source: str | None = None
    metric: ShownMetric = Field(None, description="metric of its column on the board, instead of the suite's")

    @property
    def spec(self) -> str:
        """The registered name of the task or of its source."""
        return self.source or self.name


class ProtocolEntry(_Entry):
    """A protocol with its options; the lists restrict what it is run on."""

    label: str | None = Field(None, min_length=1, max_length=100)
    backbones: list[str] | None = None
    tasks: list[str] | None = None
    budgets: list[Budget] | None = None
    seeds: list[Seed] | None = None
    preprocess: PreprocessName | None = None
    resolution_px: int | None = Field(None, ge=1, le=4096)
    test_resolution_px: int | None = Field(None, ge=1, le=4096)


class Defaults(BaseModel):
    """Options for all entries of a list that take them and do not set them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    backbones: dict[str, Any] = {}
    tasks: dict[str, Any] = {}
    protocols: dict[str, Any] = {}


class SuiteFile(BaseModel):
    """A suite: backbones, tasks, protocols, budgets and seeds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    description: str = ""
    backbones: list[BackboneEntry] = Field(min_length=1)
    tasks: list[TaskEntry] = Field(min_length=1)
    protocols: list[ProtocolEntry] = Field(min_length=1)
    budgets: list[Budget] = Field(["full"], min_length=1)
    seeds: list[Seed] = Field([0], min_length=1)
    defaults: Defaults = Defaults()
    limit: int | None = Field(None, ge=1, lt=2**31)
    dtype: Dtype = "float32"
    feature_dtype: FeatureDtype = "float32"
    preprocess: PreprocessName | None = None
    resolution_px: int | None = Field(None, ge=1, le=4096)
    test_resolution_px: int | None = Field(None, ge=1, le=4096)
    metric: ShownMetric = Field(None, description="metric of the board, instead of each task's own")
    published: list[str] = Field([], description="prefixes of ids of published rows to show as well")

    @field_validator("published")
    @classmethod
    def _rows_are_published(cls, prefixes: list[str]) -> list[str]:
        """Check that each is the prefix of a published row's id."""
        if prefixes:
            from vitbench.published import published

            names = [row.id for row in published()]
            for prefix in prefixes:
                if not prefix or not any(name.startswith(prefix) for name in names):
                    near = " or ".join(nearest(prefix, names)) or "see vitbench list published"
                    raise ValueError(f"no published id begins with {prefix!r}; did you mean {near}")
        return prefixes

    @field_validator("backbones", "tasks", "protocols", mode="before")
    @classmethod
    def _names_are_entries(cls, value: Any) -> Any:
        """Turn names into entries without options."""
        if not isinstance(value, list):
            return value
        return [{"name": item} if isinstance(item, str) else item for item in value]


def problems_of(items: Iterable[Any], located: Located, prefix: KeyPath = ()) -> list[Problem]:
    """Return pydantic's errors (`error.errors()`) with file and line; the branches of a union count as one."""
    found: dict[tuple[Any, ...], Problem] = {}
    for item in items:
        branch = _union_branch(item, located, prefix)
        loc = item["loc"][:branch]
        problem = _problem({**item, "loc": loc}, located, prefix)
        known = found.get(loc)
        if known is not None and branch < len(item["loc"]):
            shorter = problem.what.partition(": ")[2].partition(", given")[0]
            problem = Problem(known.what.replace(", given", f" or {shorter}, given"), known.where)
        found[loc] = problem
    return list(found.values())


def _union_branch(item: Any, located: Located, prefix: KeyPath) -> int:
    """Return how much of pydantic's path is in the file; what follows are names of a union's branches."""
    data = reduce(lambda data, part: data[part], prefix, located.data)
    for depth, part in enumerate(item["loc"]):
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return depth if item["type"] not in ("missing", "extra_forbidden") and depth else depth + 1
    return len(item["loc"])


_FIELDS: dict[str, type[BaseModel]] = {
    "": SuiteFile, "backbones": BackboneEntry, "tasks": TaskEntry, "protocols": ProtocolEntry, "defaults": Defaults,
}  # fmt: skip


def _problem(item: Any, located: Located, prefix: KeyPath) -> Problem:
    path = (*prefix, *item["loc"])
    where = located.where(path)
    name = ".".join(map(str, path))
    if item["type"] == "extra_forbidden":
        parent = str(path[0]) if len(path) > 1 else ""
        near = nearest(str(path[-1]), _FIELDS.get(parent, SuiteFile).model_fields)
        return Problem(f"unknown key {path[-1]!r}", where, near, "vitbench list schema")
    if item["type"] == "missing":
        return Problem(f"{name} is missing", where)
    given = repr(item["input"])
    shown = given if len(given) <= 80 else given[:77] + "..."
    message = item["msg"].removeprefix("Value error, ")
    tail = "" if shown in message else f", given {shown}"
    return Problem(f"{name}: {message[0].lower()}{message[1:]}{tail}", where)
