"""The grid of a suite, backbones x tasks x protocols x budgets x seeds: its jobs and its lock file."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import yaml

from vitbench.api import Protocol
from vitbench.core.job import MEASUREMENT, Component, Job, SuiteContext
from vitbench.suite.suite_file import ProtocolEntry, SuiteFile

Value = TypeVar("Value", str, int)
OWN_SETTINGS = tuple(name for name in MEASUREMENT if name in ProtocolEntry.model_fields)


@dataclass(frozen=True)
class ResolvedProtocol:
    """A protocol's entry in the suite, with the component and the protocol that it names."""

    entry: ProtocolEntry
    component: Component
    protocol: Protocol

    def applies_to(self, backbone: Component, task: Component) -> bool:
        """Whether the entry asks for this backbone and task."""
        return _listed(self.entry.backbones, backbone) and _listed(self.entry.tasks, task)


@dataclass(frozen=True)
class Grid:
    """The resolved axes of a suite; `budgets` and `seeds` are those of the command line, if any.

    `metrics` are those of the board that entries of tasks ask for, by label.
    """

    suite: SuiteFile
    backbones: list[Component]
    tasks: list[Component]
    protocols: list[ResolvedProtocol]
    budgets: Sequence[str]
    seeds: Sequence[int]
    metrics: Mapping[str, str] = field(default_factory=dict)

    def jobs(self) -> list[Job]:
        """Return the jobs, backbone by backbone, each once."""
        jobs: dict[str, Job] = {}
        for backbone, task, resolved in itertools.product(self.backbones, self.tasks, self.protocols):
            if resolved.applies_to(backbone, task):
                for job in self._cell(backbone, task, resolved):
                    jobs.setdefault(job.key, job)
        return list(jobs.values())

    def _cell(self, backbone: Component, task: Component, resolved: ResolvedProtocol) -> Iterator[Job]:
        suite, entry = self.suite, resolved.entry
        every_task = dict.fromkeys([*(t.name for t in suite.tasks), task.label])
        expected = tuple(name for name in every_task if entry.tasks is None or name in entry.tasks)
        measurement = self._measurement(resolved)
        for budget in _narrowed(suite.budgets, entry.budgets, self.budgets):
            seeds = _narrowed(suite.seeds, entry.seeds, self.seeds)
            if not resolved.protocol.depends_on_seed(budget):
                seeds = [0][: len(seeds)]  # always the same one, whatever the seeds of the suite
            if not seeds:
                continue
            first = Job(
                suite=SuiteContext(
                    name=suite.name,
                    tasks=expected,
                    seeds=len(seeds),
                    published=tuple(suite.published),
                    metric=self.metrics.get(task.label) or suite.metric or "",
                ),
                backbone=backbone,
                task=task,
                protocol=resolved.component,
                budget=budget,
                seed=seeds[0],
                **measurement,
            )
            yield from first.with_seeds(seeds)

    def _measurement(self, resolved: ResolvedProtocol) -> dict[str, Any]:
        """Return the measurement settings: the entry's own, else the suite's, else the protocol's default."""
        found = {
            name: getattr(resolved.entry, name, None) or getattr(self.suite, name) for name in MEASUREMENT
        }
        return {**found, "preprocess": found["preprocess"] or resolved.protocol.default_preprocess}

    def lock(self) -> str:
        """Return a suite file with all options filled in and all filters applied: it has the same jobs."""
        suite = self.suite
        kept = {"name", "description", "budgets", "seeds", *MEASUREMENT}
        contents = suite.model_dump(include=kept, exclude_none=True)
        for name in ("metric", "published"):
            if value := getattr(suite, name):
                contents[name] = value
        contents["backbones"] = [{"name": c.spec, "label": c.label, **c.options} for c in self.backbones]
        contents["tasks"] = [
            {"name": c.label, "source": c.spec, **self._own_metric(c), **c.options} for c in self.tasks
        ]
        contents["protocols"] = [self._locked(resolved) for resolved in self.protocols]
        return yaml.safe_dump(contents, sort_keys=False, allow_unicode=True, width=110)

    def _own_metric(self, task: Component) -> dict[str, str]:
        return {"metric": self.metrics[task.label]} if task.label in self.metrics else {}

    def _locked(self, resolved: ResolvedProtocol) -> dict[str, Any]:
        entry, component = resolved.entry, resolved.component
        return {
            "name": component.spec,
            "label": component.label,
            "backbones": [c.label for c in self.backbones if _listed(entry.backbones, c)],
            "tasks": [c.label for c in self.tasks if _listed(entry.tasks, c)],
            "budgets": _narrowed(self.suite.budgets, entry.budgets, self.budgets),
            "seeds": _narrowed(self.suite.seeds, entry.seeds, self.seeds),
            **entry.model_dump(include=set(OWN_SETTINGS), exclude_none=True),
            **component.options,
        }


def _listed(names: list[str] | None, component: Component) -> bool:
    return names is None or component.label in names or component.spec in names


def _narrowed(given: list[Value], own: list[Value] | None, command_line: Sequence[Value]) -> list[Value]:
    """Return the entry's list if it has one, else the suite's; the command line filters the former and replaces the latter."""
    if own is None:
        return list(dict.fromkeys(given))
    return [value for value in dict.fromkeys(own) if not command_line or value in command_line]
