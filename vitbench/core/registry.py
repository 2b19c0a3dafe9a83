"""The registries of backbones, tasks and protocols: names, options, and origins.

The keyword parameters of a registered class or function are its options. Their annotations are checked when a suite is read,
before anything runs. A parameter annotated `pathlib.Path` is a path: a Job's key depends on the content there, not on its
name.
"""

from __future__ import annotations

import contextlib
import inspect
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, create_model

from vitbench.core.digest import digest_path
from vitbench.core.errors import UsageError, first_reason, unknown
from vitbench.core.files import digest_bytes

F = TypeVar("F", bound=Callable[..., Any])
BUILT_IN = "vitbench"


@dataclass(frozen=True)
class Entry:
    """One registered component. `labels` are facts about it, shown in lists and on pages."""

    kind: str
    name: str
    build: Callable[..., Any]
    version: str
    origin: str
    labels: dict[str, str]
    argument: str = ""
    unknown_argument: Callable[[str], Sequence[str] | None] = lambda _argument: None
    common: type[BaseModel] | None = None
    digest: Callable[[Path], str] = digest_path

    @property
    def summary(self) -> str:
        """The first line of its docstring."""
        return (inspect.getdoc(self.build) or "").split("\n")[0].rstrip(".")

    @cached_property
    def argument_is_path(self) -> bool:
        """Whether the text after the colon is a path: a Job's key then depends on the content there."""
        first = next(iter(_hints(self).values()), None) if self.argument else None
        return first is Path

    @cached_property
    def options(self) -> type[BaseModel]:
        """A pydantic model of the options: those of the signature of `build`, and those that all of its kind take."""
        return _options_model(self)

    @cached_property
    def own_options(self) -> frozenset[str]:
        """The options that `build` is given."""
        return frozenset(_own_fields(self))

    @cached_property
    def locations(self) -> frozenset[str]:
        """The options that are paths."""
        fields = self.options.model_fields.items()
        return frozenset(name for name, field in fields if _mentions_path(field.annotation))


def _listed(value: object) -> object:
    """One name stands for a list of one: it is how `--set` writes it."""
    return (value,) if isinstance(value, str) else value


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
        self._entries: dict[str, Entry] = {}
        self._aliases: dict[str, str] = {}

    def register(
        self,
        name: str,
        *,
        version: int = 1,
        argument: str = "",
        unknown_argument: Callable[[str], Sequence[str] | None] = lambda _argument: None,
        digest: Callable[[Path], str] = digest_path,
        **labels: str,
    ) -> Callable[[F], F]:
        """Decorate a class or a function that makes a component.

        Raise `version` whenever a change moves a score: it is part of every Job's key. `argument` is the name of the text after
        the colon in specs such as `timm:NAME`; it becomes the first parameter. `unknown_argument` returns None for an argument
        that exists, otherwise similar names. `digest` is that of what is read at a path; by default of all files there.

        Raises:
            UsageError: the name is taken by something else, or a parameter's type cannot be resolved.
        """

        def decorate(build: F) -> F:
            origin, suffix = _origin_of(build)
            versioned = f"{version}{suffix}"
            entry = Entry(
                self.kind,
                name,
                build,
                versioned,
                origin,
                labels,
                argument,
                unknown_argument,
                self.common,
                digest,
            )
            _ = entry.options  # a signature that cannot be read is reported at registration
            self._add(entry)
            return build

        return decorate

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
register_backbone = BACKBONES.register
register_task = TASKS.register
register_protocol = PROTOCOLS.register

_loading_package: list[str] = []


@contextlib.contextmanager
def loading(package: str) -> Iterator[None]:
    """Within the block, registrations belong to `package` ('my-plugin 0.3')."""
    _loading_package.append(package)
    try:
        yield
    finally:
        _loading_package.pop()


def _origin_of(build: Callable[..., Any]) -> tuple[str, str]:
    """The origin of a component, and the suffix of its version.

    A plugin adds its distribution's name and version and a digest of its source file: an edit re-runs its jobs.
    """
    if build.__module__.startswith(f"{BUILT_IN}."):
        return BUILT_IN, ""
    try:
        file = Path(inspect.getfile(build))
        source, digest = file.name, digest_bytes(file.read_bytes())[:12]
    except (TypeError, OSError):
        source, digest = build.__module__, "interactive"
    if _loading_package:
        return _loading_package[-1], f"+{_loading_package[-1].replace(' ', '-')}.{digest}"
    return source, f"+{digest}"


def _options_model(entry: Entry) -> type[BaseModel]:
    common = entry.common.model_fields if entry.common else {}
    fields: dict[str, Any] = _own_fields(entry)
    fields |= {name: (field.annotation, field) for name, field in common.items() if name not in fields}
    config = ConfigDict(extra="forbid", arbitrary_types_allowed=True, protected_namespaces=())
    return create_model(f"{entry.name} options", __config__=config, **fields)


def _own_fields(entry: Entry) -> dict[str, Any]:
    parameters = list(inspect.signature(entry.build).parameters.values())
    if entry.argument:
        parameters = parameters[1:]
    hints = _hints(entry)
    return {
        parameter.name: (
            hints.get(parameter.name, Any),
            ... if parameter.default is parameter.empty else parameter.default,
        )
        for parameter in parameters
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }


def _hints(entry: Entry) -> dict[str, Any]:
    """The types of the parameters; the return type may be known to type checkers only.

    Raises:
        UsageError: a parameter's annotation cannot be resolved, so its values could not be checked.
    """
    function: Any = entry.build.__init__ if inspect.isclass(entry.build) else entry.build
    own = {name: hint for name, hint in inspect.get_annotations(function).items() if name != "return"}
    holder = type("Parameters", (), {"__annotations__": own})
    try:
        return typing.get_type_hints(holder, getattr(function, "__globals__", {}), include_extras=True)
    except NameError as error:
        what = f"{entry.kind} {entry.name!r}: the type of a parameter cannot be resolved: {error}"
        raise UsageError(f"{what}; import it outside `if TYPE_CHECKING`") from error


def _mentions_path(annotation: Any) -> bool:
    if annotation is Path:
        return True
    return any(_mentions_path(inner) for inner in typing.get_args(annotation))
