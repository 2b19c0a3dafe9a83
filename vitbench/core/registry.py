"""The registries of backbones, tasks, protocols and logs: names, options, and origins.

The keyword parameters of a registered class or function are its options. Their annotations are checked when a suite is read,
before anything runs. A parameter annotated `pathlib.Path` is a path: a Job's key depends on the content there, not on its
name.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from vitbench.core.code_digest import code_version
from vitbench.core.digest import digest_path
from vitbench.core.entry import Entry
from vitbench.core.errors import Problem, UsageError, first_reason, unknown
from vitbench.core.libraries import library_versions
from vitbench.core.source_files import BUILT_IN

F = TypeVar("F", bound=Callable[..., Any])


def _listed(value: object) -> object:
    """One name stands for a list of one: it is how `--set` writes it."""
    return (value,) if isinstance(value, str) else value


def _is_file(text: str) -> bool:
    try:
        return Path(text).expanduser().is_file()
    except (OSError, ValueError):
        return False


class StatedFacts(BaseModel):
    """What a user states of a backbone's weights, where the adapter cannot know; None: not stated."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    pretrain_data: str | None = None
    trained_on: Annotated[tuple[str, ...] | None, BeforeValidator(_listed)] = None
    licence: str | None = None
    source: str | None = None


class Registry:
    """The registered components of one kind, by name. `common` are options that every one takes and that it is not given."""

    def __init__(self, kind: str, common: type[BaseModel] | None = None) -> None:
        self.kind = kind
        self.common = common
        self.explain_file: Callable[[Path], Problem] | None = None  # what to type instead of a bare path
        self._entries: dict[str, Entry] = {}
        self._aliases: dict[str, str] = {}

    def register(  # noqa: PLR0913  each is a fact that one kind of component needs
        self,
        name: str,
        *,
        version: int = 1,
        argument: str = "",
        unknown_argument: Callable[[str], Sequence[str] | None] = lambda _argument: None,
        digest: Callable[[Path], str] = digest_path,
        data: Callable[[Mapping[str, Any]], str] | None = None,
        libraries: Sequence[str] = (),
        n_test: int | None = None,
        **labels: str,
    ) -> Callable[[F], F]:
        """Decorate a class or a function that makes a component.

        Raise `version` whenever a change moves a score: it is part of every Job's key. `argument` is the name of the text after
        the colon in specs such as `timm:NAME`; it becomes the first parameter. `unknown_argument` returns None for an argument
        that exists, otherwise similar names. `digest` is that of what is read at a path; by default of all files there. `data`
        returns the digest of what is read from elsewhere, given the options, '' if nothing is. `libraries` are packages whose
        versions features depend on; those that a plugin imports are found. `n_test` is the number of test examples of a task
        whose data are always the same: submissions are held to it.

        Raises:
            UsageError: the name is taken by something else, or a parameter's type cannot be resolved.
        """
        registered_in = Path(sys._getframe(1).f_code.co_filename)

        def decorate(build: F) -> F:
            origin, code = _origin_of(build, registered_in, libraries)
            entry = Entry(
                self.kind,
                name,
                build,
                version,
                code,
                origin,
                labels,
                argument,
                unknown_argument,
                self.common,
                digest,
                data,
                n_test,
            )
            _ = entry.options  # a signature that cannot be read is reported at registration
            self._add(entry)
            return build

        return decorate

    def remove(self, name: str) -> None:
        """Forget a component that was registered for a while."""
        self._entries.pop(name, None)

    def alias(self, name: str, spec: str) -> None:
        """Let a short name stand for a full spec."""
        self._aliases[name] = spec

    def expanded(self, spec: str) -> str:
        """The full spec of a short name; any other spec unchanged."""
        return self._aliases.get(spec, spec)

    def _add(self, entry: Entry) -> None:
        present = self._entries.get(entry.name)
        if present is not None and present.origin != entry.origin:
            msg = f"{self.kind} {entry.name!r} of {entry.origin} is already registered by {present.origin}"
            raise UsageError(f"{msg}: give it another name")
        self._entries[entry.name] = entry

    def get(self, spec: str, where: str = "") -> tuple[Entry, str]:
        """The entry of a spec and the argument after its colon (`timm:NAME`), or ''.

        Raises:
            UsageError: the name is unknown, or an argument is missing or not allowed.
        """
        if spec in self._entries and not self._entries[spec].argument:
            return self._entries[spec], ""
        spec = self._aliases.get(spec, spec)
        name, colon, argument = spec.partition(":")
        entry = self._entries.get(name)
        if entry is None and self.explain_file and _is_file(spec):
            raise UsageError(replace(self.explain_file(Path(spec)), where=where))
        if entry is None or (colon and not entry.argument):
            raise UsageError(unknown(self.kind, spec, [*self.specs(), *self._aliases], where))
        if not argument:
            wanted = f"{name}:{entry.argument.upper()}"
            raise UsageError(unknown(self.kind, spec, [wanted], where))
        candidates = entry.unknown_argument(argument)
        if candidates is not None:
            names = [f"{name}:{candidate}" for candidate in candidates]
            raise UsageError(unknown(self.kind, spec, names, where))
        return entry, argument

    def make(self, spec: str, options: Mapping[str, Any]) -> tuple[Entry, Any]:
        """Build the component of a spec, its options checked first.

        Raises:
            UsageError: the name is unknown, or an option is unknown or of the wrong kind.
        """
        entry, argument = self.get(spec)
        checked = self.check(spec, options)
        arguments = {name: getattr(checked, name) for name in entry.own_options}
        first = Path(argument).expanduser() if entry.argument_is_path else argument
        return entry, entry.build(*([first] if entry.argument else []), **arguments)

    def check(self, spec: str, options: Mapping[str, Any]) -> BaseModel:
        """The checked options of a spec.

        Raises:
            UsageError: the name is unknown, or an option is unknown or of the wrong kind.
        """
        entry, _ = self.get(spec)
        try:
            return entry.options.model_validate(dict(options))
        except ValidationError as error:
            raise UsageError(f"{self.kind} {spec!r}, option {first_reason(error)}") from error

    def entries(self) -> list[Entry]:
        """All entries, sorted by name."""
        return [self._entries[name] for name in sorted(self._entries)]

    def specs(self) -> list[str]:
        """The names as in a suite; `timm:NAME` for those with an argument."""
        return [
            f"{entry.name}:{entry.argument.upper()}" if entry.argument else entry.name
            for entry in self.entries()
        ]

    @contextlib.contextmanager
    def restored(self) -> Iterator[None]:
        """Undo registrations at the end of the block: for tests and trial loads."""
        saved = dict(self._entries)
        try:
            yield
        finally:
            self._entries = saved


BACKBONES = Registry("backbone", StatedFacts)
TASKS = Registry("task")
PROTOCOLS = Registry("protocol")
LOGS = Registry("log")
register_backbone = BACKBONES.register
register_task = TASKS.register
register_protocol = PROTOCOLS.register
register_log = LOGS.register

_loading_package: list[str] = []


@contextlib.contextmanager
def loading(package: str) -> Iterator[None]:
    """Within the block, registrations belong to `package` ('my-plugin 0.3')."""
    _loading_package.append(package)
    try:
        yield
    finally:
        _loading_package.pop()


def _origin_of(
    build: Callable[..., Any], registered_in: Path, libraries: Sequence[str]
) -> tuple[str, Callable[[], str]]:
    """The origin of a component, and a function that returns the part of its version that follows its code.

    That is the versions of libraries that features depend on; a plugin adds its distribution's name and version and a digest of
    its own source.
    """
    if build.__module__.startswith(f"{BUILT_IN}."):
        return BUILT_IN, lambda: library_versions(libraries)
    source, digest, imported = code_version(build, registered_in)
    versions = library_versions([*libraries, *imported])
    if not _loading_package:
        return source, lambda: f"+{digest()}{versions}"
    package = _loading_package[-1]
    return package, lambda: f"+{package.replace(' ', '-')}.{digest()}{versions}"
