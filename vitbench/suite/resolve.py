"""From the entries of a suite to registered components, with all options checked and filled in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import to_jsonable_python

from vitbench.core.entry import Entry
from vitbench.core.errors import Problem, UsageError, nearest
from vitbench.core.job import Component, check_recordable
from vitbench.suite.suite_file import KINDS, BackboneEntry, Defaults, ProtocolEntry, TaskEntry, problems_of
from vitbench.suite.yaml_lines import Located

AnyEntry = BackboneEntry | TaskEntry | ProtocolEntry


@dataclass
class Resolver:
    """Resolves entries, and collects all mistakes and all missing files."""

    defaults: Defaults
    located: Located
    problems: list[Problem] = field(default_factory=list)
    missing: list[Problem] = field(default_factory=list)

    def resolve(self, kind: str, entry: AnyEntry, position: int) -> tuple[Entry, Component] | None:
        """Return the registered entry and the component, or None if there are mistakes."""
        path = (kind, position)
        where = self.located.where(path)
        try:
            registered, argument = KINDS[kind].get(entry.spec, where)
        except UsageError as error:
            self.problems += error.problems
            return None
        defaults = self._defaults(kind, in_file=not where.startswith("--"))
        checked = self._options(registered, entry, path, defaults)
        if checked is None:
            return None
        options = self._placed(registered, checked, path)
        if registered.argument_is_path:
            argument = str(self._absolute(Path(argument), path))
        contents = self._contents(registered, options, argument, where)
        label = entry.name if isinstance(entry, TaskEntry) else entry.label or entry.name
        return registered, Component(
            name=registered.name,
            version=registered.version,
            label=label,
            argument=argument,
            options=to_jsonable_python(options),
            contents=contents,
        )

    def _defaults(self, kind: str, *, in_file: bool) -> Mapping[str, Any]:
        """Return the defaults for an entry: those of a file apply to its own entries, those set by --set to all."""
        given: Mapping[str, Any] = getattr(self.defaults, kind)
        if in_file:
            return given
        return {
            name: value
            for name, value in given.items()
            if self.located.where(("defaults", kind, name)).startswith("--set")
        }

    def _options(
        self,
        registered: Entry,
        entry: AnyEntry,
        path: tuple[Any, ...],
        defaults: Mapping[str, Any],
    ) -> BaseModel | None:
        known = registered.options.model_fields
        given = {key: value for key, value in defaults.items() if key in known} | entry.options
        try:
            checked = registered.options.model_validate(given)
        except ValidationError as error:
            items = error.errors()
        else:
            return checked if self._recordable(registered, checked, path) else None
        items = [item for item in items if not self._is_missing_path(registered, entry, item, path)]
        strangers = [item for item in items if item["type"] == "extra_forbidden"]
        for item in strangers:
            name = str(item["loc"][0])
            what = f"{registered.kind} {registered.name!r} has no option {name!r}"
            line = self.located.where((*path, name))
            near = nearest(name, [*type(entry).model_fields, *known])
            takes = f"it takes: {', '.join(known) or 'no options'}"
            self.problems.append(Problem(what, line, near, takes))
        found = problems_of((item for item in items if item not in strangers), self.located, path)
        self.problems += found
        return None

    def _is_missing_path(self, registered: Entry, entry: AnyEntry, item: Any, path: tuple[Any, ...]) -> bool:
        """Whether a mistake is a path that is not given; it is reported with what to type."""
        name = str(item["loc"][0])
        if name not in registered.locations or not (item["type"] == "missing" or item["input"] is None):
            return False
        kind = str(path[0])
        what = f"{registered.kind} {entry.name!r} needs its `{name}`"
        step = f"--set {kind}.{entry.name}.{name}=PATH"
        step = f"vitbench folder PATH; or {step}" if registered.name == "folder" else step
        self.problems.append(Problem(what, self.located.where((*path, name)), next_step=step))
        return True

    def _recordable(self, registered: Entry, checked: BaseModel, path: tuple[Any, ...]) -> bool:
        """Whether the options can be recorded; jobs with others would never be done."""
        before = len(self.problems)
        for name, value in checked:
            try:
                check_recordable(value, name)
            except ValueError as error:
                line = self.located.where((*path, name))
                self.problems.append(Problem(f"{registered.kind} {registered.name!r}, option {error}", line))
        return len(self.problems) == before

    def _placed(self, registered: Entry, checked: BaseModel, path: tuple[Any, ...]) -> dict[str, Any]:
        """Return options as plain values; relative paths are relative to the file that names them, or to here for --set."""
        options = {
            name: value
            for name in registered.options.model_fields
            if (value := getattr(checked, name)) is not None
            or name in registered.own_options - registered.added
        }
        for name in registered.locations:
            value = options.get(name)
            if isinstance(value, Path):
                options[name] = self._absolute(value, (*path, name))
            elif isinstance(value, Mapping):
                options[name] = {key: self._absolute(inner, (*path, name)) for key, inner in value.items()}
        return options

    def _absolute(self, given: Path, path: tuple[Any, ...]) -> Path:
        file = self.located.where(path).rpartition(":")[0]
        base = Path(file).parent if file and not file.startswith("--") else Path()
        return (base / given.expanduser()).resolve()

    def _contents(
        self, registered: Entry, options: Mapping[str, Any], argument: str, where: str
    ) -> dict[str, str]:
        for name, path in registered.places(options, argument).items():
            if not path.exists():
                what = f"{registered.kind} {registered.name!r}: {path} does not exist"
                self.missing.append(Problem(what, where, next_step=f"correct its `{name}`"))
        return registered.content(options, argument)
