"""From a suite to its flat list of Jobs, ordered by backbone so that neighbouring jobs share features."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from vitbench.api import Protocol
from vitbench.core.errors import DataMissingError, Problem, UsageError, nearest
from vitbench.core.job import Component, Dtype, Job, SuiteContext
from vitbench.core.registry import PROTOCOLS
from vitbench.suite.resolve import Resolver
from vitbench.suite.suite_file import (
    KINDS,
    BackboneEntry,
    Defaults,
    ProtocolEntry,
    SuiteFile,
    TaskEntry,
    problems_of,
)
from vitbench.suite.yaml_lines import Located

T = TypeVar("T", BackboneEntry, TaskEntry, ProtocolEntry)
T_ = TypeVar("T_", str, int)


@dataclass(frozen=True)
class Overrides:
    """Changes from the command line: lists replace those of the suite, and filter those of its protocols."""

    backbones: Sequence[str] = ()
    tasks: Sequence[str] = ()
    protocols: Sequence[str] = ()
    budgets: Sequence[str] = ()
    seeds: Sequence[int] = ()
    limit: int | None = None
    dtype: Dtype | None = None
    settings: Sequence[str] = ()
    plugins: Sequence[str] = ()


@dataclass(frozen=True)
class ExpandedSuite:
    """The jobs of a suite, and the suite with all options filled in, as the text of a suite file."""

    name: str
    jobs: tuple[Job, ...]
    lock: str


@dataclass(frozen=True)
class _Cell:
    """A protocol entry with its resolved component."""

    entry: ProtocolEntry
    component: Component
    protocol: Protocol


def expand(located: Located, overrides: Overrides | None = None) -> ExpandedSuite:
    """Return all jobs of a suite.

    Raises:
        UsageError: with all mistakes in the suite and on the command line.
        DataMissingError: with all files and folders that are named and do not exist.
    """
    overrides = overrides or Overrides()
    suite = _validated(located, overrides)
    resolver = Resolver(suite.defaults, located)
    backbones = _resolved(resolver, "backbones", _chosen(suite.backbones, overrides.backbones, BackboneEntry))
    tasks = _resolved(resolver, "tasks", _chosen(suite.tasks, overrides.tasks, TaskEntry))
    cells = []
    wanted = _chosen(suite.protocols, overrides.protocols, ProtocolEntry)
    for entry, _, component in _entries(resolver, "protocols", wanted):
        try:
            cells.append(_Cell(entry, component, PROTOCOLS.make(component.spec, component.options)[1]))
        except Exception as error:  # noqa: BLE001  a protocol may refuse options that do not go together
            resolver.problems.append(
                Problem(f"protocol {component.label!r}: {error}", located.where(("protocols",)))
            )
    resolver.problems += _unknown_names(
        suite, located, [c.label for c in backbones], [c.label for c in tasks]
    )
    resolver.problems += _same_labels(
        located,
        (("backbones", backbones), ("tasks", tasks), ("protocols", [c.component for c in cells])),
    )
    resolver.problems += _unused_defaults(suite, located)
    if resolver.problems:
        raise UsageError(resolver.problems)
    if resolver.missing:
        raise DataMissingError(resolver.missing)
    jobs = _jobs(suite, (backbones, tasks, cells), overrides)
    if not jobs:
        raise UsageError(f"suite {suite.name}: no jobs match these filters")
    return ExpandedSuite(suite.name, tuple(jobs), _lock(suite, (backbones, tasks, cells), overrides))


def _validated(located: Located, overrides: Overrides) -> SuiteFile:
    given: dict[str, Any] = {
        "budgets": list(overrides.budgets), "seeds": list(overrides.seeds),
        "limit": overrides.limit, "dtype": overrides.dtype,
    }  # fmt: skip
    for key, value in given.items():
        if value not in (None, []):
            located.data[key] = value
            located.places = {p: at for p, at in located.places.items() if p[:1] != (key,)}
            located.places[(key,)] = f"--{key.removesuffix('s') if key == 'budgets' else key}"
    try:
        return SuiteFile.model_validate(located.data)
    except ValidationError as error:
        problems = problems_of(error.errors(), located)
    raise UsageError([*problems, *_component_problems(located)])


def _component_problems(located: Located) -> list[Problem]:
    """Return mistakes in the entries of a file that has other mistakes, so that all are reported at once."""
    found: list[Problem] = []
    kinds = {"backbones": BackboneEntry, "tasks": TaskEntry, "protocols": ProtocolEntry}
    for kind, model in kinds.items():
        items = located.data.get(kind)
        for position, item in enumerate(items if isinstance(items, list) else ()):
            try:
                entry: Any = model.model_validate({"name": item} if isinstance(item, str) else item)
            except ValidationError:
                continue
            resolver = Resolver(Defaults(), located)
            resolver.resolve(kind, entry, position)
            found += resolver.problems
    return found


def _chosen(entries: Sequence[T], wanted: Sequence[str], model: type[T]) -> list[tuple[int | None, T]]:
    """Return the entries requested on the command line by label or name; a name that matches none becomes a new entry."""
    if not wanted:
        return list(enumerate(entries))
    chosen: list[tuple[int | None, T]] = []
    for name in wanted:
        matches = [(i, e) for i, e in enumerate(entries) if name in (e.name, getattr(e, "label", None))]
        chosen += matches or [(None, model.model_construct(name=name))]
    return chosen


def _entries(
    resolver: Resolver, kind: str, entries: Iterable[tuple[int | None, T]]
) -> list[tuple[T, Any, Component]]:
    found: list[tuple[T, Any, Component]] = []
    for position, entry in entries:
        pair = resolver.resolve(kind, entry, position)
        if pair is not None:
            found.append((entry, pair[0], pair[1]))
    return found


def _resolved(resolver: Resolver, kind: str, entries: Iterable[tuple[int | None, T]]) -> list[Component]:
    return [component for _, _, component in _entries(resolver, kind, entries)]


def _unknown_names(
    suite: SuiteFile, located: Located, backbones: Sequence[str], tasks: Sequence[str]
) -> list[Problem]:
    """Return the names in a protocol's `backbones` and `tasks` that the suite does not have."""
    entries = [name for entry in suite.backbones for name in (entry.label, entry.name) if name]
    known = {"backbones": [*backbones, *entries], "tasks": [*tasks, *(entry.name for entry in suite.tasks)]}
    problems = []
    for position, entry in enumerate(suite.protocols):
        for kind, names in known.items():
            for index, name in enumerate(getattr(entry, kind) or ()):
                if name not in names:
                    place = located.where(("protocols", position, kind, index))
                    what = f"the suite has no {kind.removesuffix('s')} {name!r}"
                    problems.append(Problem(what, place, nearest(name, names)))
    return problems


def _unused_defaults(suite: SuiteFile, located: Located) -> list[Problem]:
    """Return the options in `defaults` that no entry of the suite takes."""
    problems = []
    for kind, registry in KINDS.items():
        taken: set[str] = set()
        try:
            for entry in getattr(suite, kind):
                taken |= set(registry.get(entry.spec)[0].options.model_fields)
        except UsageError:  # reported elsewhere; what that entry takes is unknown
            continue
        for name in getattr(suite.defaults, kind):
            if name not in taken:
                what = f"no entry of {kind} takes the option {name!r}"
                place = located.where(("defaults", kind, name))
                problems.append(Problem(what, place, nearest(name, sorted(taken))))
    return problems


def _same_labels(located: Located, kinds: Iterable[tuple[str, Sequence[Component]]]) -> list[Problem]:
    """Return labels shared by different components: their scores would be in the same cell."""
    problems = []
    for kind, components in kinds:
        seen: dict[str, Component] = {}
        for component in components:
            other = seen.setdefault(component.label, component)
            if other.identity() != component.identity():
                key = "name" if kind == "tasks" else "label"
                what = (
                    f"two different {kind} have the label {component.label!r}: give one of them another {key}"
                )
                problems.append(Problem(what, located.where((kind,))))
    return problems


def _jobs(
    suite: SuiteFile,
    axes: tuple[list[Component], list[Component], list[_Cell]],
    overrides: Overrides,
) -> list[Job]:
    jobs: dict[str, Job] = {}
    for backbone, task, cell in itertools.product(*axes):
        if _wanted(cell.entry.backbones, backbone) and _wanted(cell.entry.tasks, task):
            for job in _cell_jobs(suite, backbone, task, cell, overrides):
                jobs.setdefault(job.key, job)
    return list(jobs.values())


def _wanted(names: list[str] | None, component: Component) -> bool:
    return names is None or component.label in names or component.spec in names


def _cell_jobs(
    suite: SuiteFile, backbone: Component, task: Component, cell: _Cell, overrides: Overrides
) -> Iterable[Job]:
    entry = cell.entry
    every_task = tuple(dict.fromkeys([*(t.name for t in suite.tasks), task.label]))
    expected = tuple(name for name in every_task if entry.tasks is None or name in entry.tasks)
    for budget in _narrowed(suite.budgets, entry.budgets, overrides.budgets):
        seeds = _narrowed(suite.seeds, entry.seeds, overrides.seeds)
        if not cell.protocol.depends_on_seed(budget):
            seeds = [0][: len(seeds)]  # always the same one, whatever the seeds of the suite
        for seed in seeds:
            yield Job(
                suite=SuiteContext(
                    name=suite.name, tasks=expected, seeds=len(seeds), published=tuple(suite.published)
                ),
                backbone=backbone,
                task=task,
                protocol=cell.component,
                budget=budget,
                seed=seed,
                limit=suite.limit,
                dtype=suite.dtype,
                feature_dtype=suite.feature_dtype,
                resolution_px=entry.resolution_px or suite.resolution_px,
                test_resolution_px=entry.test_resolution_px or suite.test_resolution_px,
                preprocess=entry.preprocess or suite.preprocess or cell.protocol.default_preprocess,
            )


def _narrowed(given: list[T_], own: list[T_] | None, command_line: Sequence[T_]) -> list[T_]:
    """Return the entry's list if it has one, else the suite's; the command line filters the former and replaces the latter."""
    if own is None:
        return list(dict.fromkeys(given))
    return [value for value in dict.fromkeys(own) if not command_line or value in command_line]


def _lock(
    suite: SuiteFile, axes: tuple[list[Component], list[Component], list[_Cell]], overrides: Overrides
) -> str:
    """Return a suite file with all options filled in and all filters applied: it has the same jobs."""
    backbones, tasks, cells = axes
    kept = {
        "name", "description", "budgets", "seeds", "limit", "dtype", "feature_dtype", "preprocess", "resolution_px",
        "test_resolution_px",
    }  # fmt: skip
    contents = suite.model_dump(include=kept, exclude_none=True)
    if suite.published:
        contents["published"] = suite.published
    contents["backbones"] = [{"name": c.spec, "label": c.label, **c.options} for c in backbones]
    contents["tasks"] = [{"name": c.label, "source": c.spec, **c.options} for c in tasks]
    contents["protocols"] = [
        {
            "name": cell.component.spec,
            "label": cell.component.label,
            "backbones": [c.label for c in backbones if _wanted(cell.entry.backbones, c)],
            "tasks": [c.label for c in tasks if _wanted(cell.entry.tasks, c)],
            "budgets": _narrowed(suite.budgets, cell.entry.budgets, overrides.budgets),
            "seeds": _narrowed(suite.seeds, cell.entry.seeds, overrides.seeds),
            **cell.entry.model_dump(
                include={"preprocess", "resolution_px", "test_resolution_px"}, exclude_none=True
            ),
            **cell.component.options,
        }
        for cell in cells
    ]
    return yaml.safe_dump(contents, sort_keys=False, allow_unicode=True, width=110)
