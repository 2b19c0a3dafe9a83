"""The shape of a suite file, and its mistakes in words with places."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from vitbench.core.errors import Problem, nearest
from vitbench.core.job import Budget, Dtype, FeatureDtype, PreprocessName
from vitbench.core.registry import BACKBONES, PROTOCOLS, TASKS, Registry
from vitbench.suite.yaml_lines import Located, Place

Seed = Annotated[int, Field(ge=0, lt=2**31)]
KINDS: dict[str, Registry] = {"backbones": BACKBONES, "tasks": TASKS, "protocols": PROTOCOLS}


class _Entry(BaseModel):
    """An entry of a list; keys that are not fields here are options of the component."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str = Field(min_length=1, max_length=300)

    @property
    def spec(self) -> str:
        """The registered name, with its argument."""
        return self.name

    @property
    def options(self) -> dict[str, Any]:
        """What goes to the component itself."""
        return dict(self.model_extra or {})


class BackboneEntry(_Entry):
    """A backbone by its spec (`timm:NAME`, a plugin's name), with a label for the board and its options."""

    label: str | None = Field(None, min_length=1, max_length=100)


class TaskEntry(_Entry):
    """A registered task, or a name of your own for one made from a `source` such as `folder`."""

    source: str | None = None

    @property
    def spec(self) -> str:
        """The registered name behind it."""
        return self.source or self.name


class ProtocolEntry(_Entry):
    """A protocol with its options; the lists narrow what it is run on."""

    label: str | None = Field(None, min_length=1, max_length=100)
    backbones: list[str] | None = None
    tasks: list[str] | None = None
    budgets: list[Budget] | None = None
    seeds: list[Seed] | None = None
    preprocess: PreprocessName | None = None
    resolution_px: int | None = Field(None, ge=1, le=4096)
    test_resolution_px: int | None = Field(None, ge=1, le=4096)


class Defaults(BaseModel):
    """Options for every entry of a list that takes them and does not set them itself."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    backbones: dict[str, Any] = {}
    tasks: dict[str, Any] = {}
    protocols: dict[str, Any] = {}


class SuiteFile(BaseModel):
    """A suite: which backbones on which tasks, by which protocols, on how much data, how often."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    description: str = ""
    backbones: list[BackboneEntry] = Field(min_length=1)
    tasks: list[TaskEntry] = Field(min_length=1)
    protocols: list[ProtocolEntry] = Field(min_length=1)
    budgets: list[Budget] = Field(["full"], min_length=1)
    seeds: list[Seed] = Field([0], min_length=1)
    defaults: Defaults = Defaults()
    limit: int | None = Field(None, ge=1)
    dtype: Dtype = "float32"
    feature_dtype: FeatureDtype = "float32"
    preprocess: PreprocessName | None = None
    resolution_px: int | None = Field(None, ge=1, le=4096)
    test_resolution_px: int | None = Field(None, ge=1, le=4096)
    published: list[str] = Field([], description="starts of names of published rows to show beside")

    @field_validator("published")
    @classmethod
    def _rows_are_published(cls, starts: list[str]) -> list[str]:
        """Each is the start of a row's name."""
        if starts:
            from vitbench.published import published

            names = [row.id for row in published()]
            for start in starts:
                if not start or not any(name.startswith(start) for name in names):
                    near = " or ".join(nearest(start, names)) or "see vitbench list published"
                    raise ValueError(f"no published row begins with {start!r}; did you mean {near}")
        return starts

    @field_validator("backbones", "tasks", "protocols", mode="before")
    @classmethod
    def _names_are_entries(cls, value: Any) -> Any:
        """A bare name stands for an entry without options."""
        if not isinstance(value, list):
            return value
        return [{"name": item} if isinstance(item, str) else item for item in value]


def problems_of(items: Iterable[Any], located: Located, prefix: Place = ()) -> list[Problem]:
    """Mistakes that pydantic found (`error.errors()`), each with its place; the branches of a union are one mistake."""
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


def _union_branch(item: Any, located: Located, prefix: Place) -> int:
    """How much of pydantic's path is in the file: behind it come the names of a union's branches."""
    data = located.child(*prefix).data if prefix else located.data
    for depth, part in enumerate(item["loc"]):
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return depth if item["type"] not in ("missing", "extra_forbidden") and depth else depth + 1
    return len(item["loc"])


_FIELDS: dict[str, type[BaseModel]] = {
    "": SuiteFile, "backbones": BackboneEntry, "tasks": TaskEntry, "protocols": ProtocolEntry, "defaults": Defaults,
}  # fmt: skip


def _problem(item: Any, located: Located, prefix: Place) -> Problem:
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
    return Problem(f"{name}: {message[0].lower()}{message[1:]}, given {shown}", where)
