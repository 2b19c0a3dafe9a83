"""One registered component: how it is built, its options as a model, its version."""

from __future__ import annotations

import contextlib
import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, create_model

from vitbench.core.digest import digest_path
from vitbench.core.errors import DataMissingError, UsageError

LONGEST_PATH = 4096  # characters, on Linux


class Added:
    """Marks an option, by `Annotated[…, Added()]`, that came after results: where it is None, jobs keep the key they had."""


@dataclass(frozen=True)
class Entry:
    """One registered component. `labels` are facts about it, shown in lists and on pages; `n_test` is known of some tasks."""

    kind: str
    name: str
    build: Callable[..., Any]
    number: int
    code: Callable[[], str]
    origin: str
    labels: dict[str, str]
    argument: str = ""
    unknown_argument: Callable[[str], Sequence[str] | None] = lambda _argument: None
    common: type[BaseModel] | None = None
    digest: Callable[[Path], str] = digest_path
    data: Callable[[Mapping[str, Any]], str] | None = None
    n_test: int | None = None

    @property
    def version(self) -> str:
        """Its version; a plugin's with its package and a digest of its code, so that an edit runs its jobs again."""
        return f"{self.number}{self.code()}"

    @property
    def summary(self) -> str:
        """The first line of its docstring."""
        return (inspect.getdoc(self.build) or "").split("\n")[0].rstrip(".")

    @cached_property
    def argument_is_path(self) -> bool:
        """Whether the text after the colon is a path: a Job's key then depends on the content there."""
        return self._argument_type is Path

    @cached_property
    def _argument_type(self) -> Any:
        return next(iter(_hints(self).values()), None) if self.argument else None

    @cached_property
    def _argument_may_be_folder(self) -> bool:
        """Whether a bare word after the colon means a folder of that name, if there is one (`str | Path`)."""
        return _mentions_path(self._argument_type)

    @cached_property
    def options(self) -> type[BaseModel]:
        """A pydantic model of the options: those of the signature of `build`, and those that all of its kind take."""
        return _options_model(self)

    @cached_property
    def own_options(self) -> frozenset[str]:
        """The options that `build` is given."""
        return frozenset(_own_fields(self))

    def content(self, options: Mapping[str, Any], argument: str = "") -> dict[str, str]:
        """Digests of all that is read: of files and folders, by option, and of `data` from elsewhere.

        A path that does not exist, and data that are not there, have none.

        Raises:
            OSError: a file cannot be read.
        """
        found = {
            name: self.digest(path) for name, path in self.places(options, argument).items() if path.exists()
        }
        if self.data is not None:
            with contextlib.suppress(DataMissingError):
                if digest := self.data(options):
                    found["data"] = digest
        return found

    def places(self, options: Mapping[str, Any], argument: str = "") -> dict[str, Path]:
        """The files and folders behind the options and the argument.

        Those declared as paths, also in a mapping (`OPTION.KEY`), and text that turns out to be one, named `text:OPTION`: it
        may mean more than its place.
        """
        found = {
            f"{name}.{inner}" if inner else name: path
            for name in sorted(self.locations)
            for inner, path in _paths_in(options.get(name))
        }
        if self.argument_is_path:
            found["argument"] = Path(argument)
        elif self.argument and _is_place(argument, folders=self._argument_may_be_folder):
            found["text:argument"] = Path(argument)
        for name in sorted(self.own_options - self.locations):
            if _is_place(options.get(name)):
                found[f"text:{name}"] = Path(options[name])
        return found

    @cached_property
    def added(self) -> frozenset[str]:
        """The options that are not part of a job's key where they are None."""
        fields = self.options.model_fields.items()
        return frozenset(
            name for name, field in fields if any(isinstance(each, Added) for each in field.metadata)
        )

    @cached_property
    def locations(self) -> frozenset[str]:
        """The options that are paths."""
        fields = self.options.model_fields.items()
        return frozenset(name for name, field in fields if _mentions_path(field.annotation))


def _paths_in(value: Any) -> list[tuple[str, Path]]:
    """The paths in the value of an option declared as such: with their keys if it is a mapping, with '' if it is one path."""
    if isinstance(value, Mapping):
        return [(str(key), Path(path)) for key, path in value.items()]
    return [("", Path(value))] if isinstance(value, str | Path) else []


def _is_place(value: object, *, folders: bool = False) -> bool:
    """Whether a text names a file that exists, or a folder; a bare word counts as a folder only where folders are usual."""
    if not isinstance(value, str) or not value or len(value) > LONGEST_PATH or "\0" in value:
        return False
    path = Path(value)
    try:
        return path.is_file() or (path.is_dir() and (folders or len(path.parts) > 1))
    except OSError:
        return False


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
