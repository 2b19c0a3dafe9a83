"""From a suite to its flat list of Jobs, ordered by backbone so that neighbouring jobs share features."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from vitbench.core.errors import DataMissingError, Problem, UsageError, nearest
from vitbench.core.job import Component, Dtype, Job
from vitbench.core.registry import PROTOCOLS
from vitbench.suite.command_line import Chosen, Given, choose
from vitbench.suite.grid import Grid, ResolvedProtocol
from vitbench.suite.presets import old_presets, without_evaluation
from vitbench.suite.read import JOINED, apply_setting
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
    """Changes from the command line: lists replace those of the suite, and filter those of its protocols.

    Backbones, tasks and protocols are labels or names of the suite's, or entries: texts `NAME,key=value,...`, or mappings.
    """

    backbones: Sequence[Given] = ()
    tasks: Sequence[Given] = ()
    protocols: Sequence[Given] = ()
    budgets: Sequence[str] = ()
    seeds: Sequence[int] = ()
    limit: int | None = None
    dtype: Dtype | None = None
    settings: Sequence[str] = ()
    plugins: Sequence[str] = ()


@dataclass(frozen=True)
class ExpandedSuite:
    """The jobs of a suite, the suite with all options filled in, as the text of a suite file, and remarks for its author."""

    name: str
    jobs: tuple[Job, ...]
    lock: str
    remarks: tuple[str, ...] = ()


def expand_chosen(located: Located, overrides: Overrides) -> ExpandedSuite:
    """Return the jobs of a suite under these changes, `--set` included.

    Raises:
        UsageError, DataMissingError: as `expand`; a path of `--set` does not exist.
    """
    chosen = choose(located, {kind: getattr(overrides, kind) for kind in JOINED})
    for setting in overrides.settings:
        apply_setting(located, setting)
    return expand(located, overrides, chosen)


def expand(
    located: Located, overrides: Overrides | None = None, chosen: Chosen | None = None
) -> ExpandedSuite:
    """Return all jobs of a suite, of the chosen entries.

    Raises:
        UsageError: with all mistakes in the suite and on the command line.
        DataMissingError: with all files and folders that are named and do not exist.
    """
    overrides = overrides or Overrides()
    if chosen is None:
        chosen = choose(located, {kind: getattr(overrides, kind) for kind in JOINED})
    suite = _validated(located, overrides)
    resolver = Resolver(suite.defaults, located)
    grid = Grid(
        suite,
        _resolved(resolver, "backbones", _chosen(suite.backbones, chosen.get("backbones"))),
        _resolved(resolver, "tasks", _chosen(suite.tasks, chosen.get("tasks"))),
        _protocols(resolver, _chosen(suite.protocols, chosen.get("protocols"))),
        overrides.budgets,
        overrides.seeds,
        {entry.name: entry.metric for entry in suite.tasks if entry.metric},
    )
    problems = [
        *resolver.problems,
        *_unknown_names(grid, located),
        *_same_labels(grid, located),
        *_unused_defaults(suite, located),
        *without_evaluation(grid, located),
    ]
    if problems:
        raise UsageError(problems)
    if resolver.missing:
        raise DataMissingError(resolver.missing)
    jobs = grid.jobs()
    if not jobs:
        raise UsageError(f"suite {suite.name}: no jobs match these filters")
    return ExpandedSuite(suite.name, tuple(jobs), grid.lock(), old_presets(suite, located))


def _protocols(resolver: Resolver, chosen: list[tuple[int, ProtocolEntry]]) -> list[ResolvedProtocol]:
    found = []
    for entry, _, component in _entries(resolver, "protocols", chosen):
        try:
            protocol = PROTOCOLS.make(component.spec, component.options)[1]
        except Exception as error:  # noqa: BLE001  a protocol may refuse options that do not go together
            where = resolver.located.where(("protocols",))
            resolver.problems.append(Problem(f"protocol {component.label!r}: {error}", where))
        else:
            found.append(ResolvedProtocol(entry, component, protocol))
    return found


def _validated(located: Located, overrides: Overrides) -> SuiteFile:
    given: dict[str, Any] = {
        "budgets": list(overrides.budgets), "seeds": list(overrides.seeds),
        "limit": overrides.limit, "dtype": overrides.dtype,
    }  # fmt: skip
    for key, value in given.items():
        if value not in (None, []):
            located.data[key] = value
            located.lines = {p: at for p, at in located.lines.items() if p[:1] != (key,)}
            located.lines[(key,)] = f"--{key.removesuffix('s') if key == 'budgets' else key}"
    try:
        return SuiteFile.model_validate(located.data)
    except ValidationError as error:
        problems = problems_of(error.errors(), located)
    raise UsageError([*problems, *_component_problems(located)])


def _component_problems(located: Located) -> list[Problem]:
    """Return mistakes in the entries of a file that has other mistakes, so that all are reported at once."""
    found: list[Problem] = []
    kinds: dict[str, type[BaseModel]] = {
        "backbones": BackboneEntry,
        "tasks": TaskEntry,
        "protocols": ProtocolEntry,
    }
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


def _chosen(entries: Sequence[T], positions: Sequence[int] | None) -> list[tuple[int, T]]:
    """The entries at these positions, or all, with their positions."""
    return [(i, entries[i]) for i in (range(len(entries)) if positions is None else positions)]


def _entries(
    resolver: Resolver, kind: str, entries: Iterable[tuple[int, T]]
) -> list[tuple[T, Any, Component]]:
    found: list[tuple[T, Any, Component]] = []
    for position, entry in entries:
        pair = resolver.resolve(kind, entry, position)
        if pair is not None:
            found.append((entry, pair[0], pair[1]))
    return found


def _resolved(resolver: Resolver, kind: str, entries: Iterable[tuple[int, T]]) -> list[Component]:
    return [component for _, _, component in _entries(resolver, kind, entries)]


def _unknown_names(grid: Grid, located: Located) -> list[Problem]:
    """Return names in a protocol's `backbones` and `tasks` that the suite does not have."""
    suite = grid.suite
    entries = [name for entry in suite.backbones for name in (entry.label, entry.name) if name]
    known = {
        "backbones": [*(c.label for c in grid.backbones), *entries],
        "tasks": [*(c.label for c in grid.tasks), *(entry.name for entry in suite.tasks)],
    }
    problems = []
    for position, entry in enumerate(suite.protocols):
        for kind, names in known.items():
            for index, name in enumerate(getattr(entry, kind) or ()):
                if name not in names:
                    line = located.where(("protocols", position, kind, index))
                    what = f"the suite has no {kind.removesuffix('s')} {name!r}"
                    problems.append(Problem(what, line, nearest(name, names)))
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
                line = located.where(("defaults", kind, name))
                problems.append(Problem(what, line, nearest(name, sorted(taken))))
    return problems


def _same_labels(grid: Grid, located: Located) -> list[Problem]:
    """Return problems of different components with one label: their scores would share a cell."""
    kinds = {
        "backbones": grid.backbones,
        "tasks": grid.tasks,
        "protocols": [resolved.component for resolved in grid.protocols],
    }
    problems = []
    for kind, components in kinds.items():
        seen: dict[str, Component] = {}
        for component in components:
            other = seen.setdefault(component.label, component)
            if other.identity() != component.identity():
                key = "name" if kind == "tasks" else "label"
                what = (
                    f"two different {kind} have the label {component.label!r}: give one of them another {key}"
                )
                problems.append(Problem(what, located.where((kind,))))
    return [*problems, *_same_components(grid, located)]


def _same_components(grid: Grid, located: Located) -> Iterator[Problem]:
    """Problems of one component under two labels: its jobs would have one key, and one of its rows no score."""
    for kind, components in (("backbones", grid.backbones), ("tasks", grid.tasks)):
        first: dict[str, str] = {}
        for component in components:
            label = first.setdefault(component.digest, component.label)
            if label != component.label:
                what = f"the {kind} {label!r} and {component.label!r} are the same, with the same options and content"
                yield Problem(what, located.where((kind,)), next_step="leave one of them out")
