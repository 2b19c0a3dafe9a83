"""The identity of a component's code: its source files, or in a notebook the objects that it consists of."""

from __future__ import annotations

import contextlib
import dis
import functools
import sys
import types
from collections.abc import Callable, Iterator
from functools import singledispatch
from pathlib import Path
from typing import Any

from vitbench.core.files import digest_bytes
from vitbench.core.libraries import LIBRARIES
from vitbench.core.source_files import (
    BUILT_IN,
    digest_sources,
    file_of,
    imported_names,
    is_installed,
    source_files,
)

# What every class has, or what says where it stands and not what it does.
_INCIDENTAL = frozenset({
    "__dict__", "__weakref__", "__module__", "__doc__", "__firstlineno__", "__static_attributes__", "__annotations__",
    "__annotations_cache__", "__annotate_func__", "__qualname__",
})  # fmt: skip


def code_version(
    build: Callable[..., Any], registered_in: Path
) -> tuple[str, Callable[[], str], frozenset[str]]:
    """The file or module that a component stands in, a function that returns the digest of its code, and what it imports.

    Code in files is that of the moment of this call, when it has just been imported; the file that registers a component counts
    too. Objects without a file, as in a notebook, are looked at on each call of the function, for what they refer to may have
    been defined anew.
    """
    file = file_of(build)
    if file is None:
        return build.__module__, functools.partial(_live_digest, build), frozenset(LIBRARIES)
    digest = digest_sources(file, build.__module__)
    if registered_in.is_file() and registered_in.resolve() not in source_files(file, build.__module__):
        digest = digest_bytes(digest.encode(), digest_sources(registered_in.resolve()).encode())[:12]
    imported = {name for source in source_files(file, build.__module__) for name in imported_names(source)}
    return file.name, lambda: digest, frozenset(imported)


def digest_of_call(function: Callable[..., Any]) -> str:
    """The digest of what a function does: its bytecode and all values that it refers to, and the code of its file, if any."""
    parts: list[bytes] = []
    if isinstance(function, types.FunctionType):
        _visit(list(_parts_of(function)), parts, {})
    _visit(function, parts, {})
    return digest_bytes(*parts)


def digest_of_class(kind: type) -> str:
    """The digest of a class's code, in its file or in a notebook."""
    return code_version(kind, Path())[1]()


def digest_of_values(values: Any) -> str:
    """The digest of plain values, in lists and dictionaries too, and of what was made in a notebook."""
    parts: list[bytes] = []
    _visit(values, parts, {})
    return digest_bytes(*parts)


def _live_digest(build: Callable[..., Any]) -> str:
    """The digest of a component's bytecode and of all that it refers to in the session that it was made in."""
    parts: list[bytes] = []
    _visit(build, parts, {})
    return "live-" + digest_bytes(*parts)[:12]


def _visit(value: Any, parts: list[bytes], seen: dict[int, Any]) -> None:
    """Add what a value does to `parts`; each object once."""
    if isinstance(value, str | bytes | int | float | complex | bool | None | types.EllipsisType):
        parts.append(repr(value).encode())
        return
    if id(value) in seen:
        return
    seen[id(value)] = value  # held, so that no other object gets its id
    parts.append(f"{type(value).__module__}.{type(value).__qualname__}".encode())
    for inner in _inside(value):
        _visit(inner, parts, seen)


@singledispatch
def _inside(value: Any) -> Iterator[Any]:
    """What a value consists of, or refers to."""
    if callable(getattr(value, "__array__", None)):
        import numpy as np

        array = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
        yield from (str(array.dtype), array.shape, array.tobytes())
    elif _is_live(type(value)):
        yield from (type(value), getattr(value, "__dict__", {}))


@_inside.register
def _(value: types.CodeType) -> Iterator[Any]:
    yield from (value.co_code, value.co_names, value.co_varnames[: value.co_argcount], value.co_consts)


@_inside.register(types.MethodType)
@_inside.register(staticmethod)
@_inside.register(classmethod)
def _(value: Any) -> Iterator[Any]:
    yield value.__func__


@_inside.register
def _(value: property) -> Iterator[Any]:
    yield from (value.fget, value.fset, value.fdel)


@_inside.register
def _(value: functools.partial) -> Iterator[Any]:  # type: ignore[type-arg]
    yield from (value.func, value.args, value.keywords)


@_inside.register
def _(value: types.ModuleType) -> Iterator[Any]:
    yield _named(value.__name__, getattr(value, "__file__", None))


@_inside.register
def _(value: dict) -> Iterator[Any]:  # type: ignore[type-arg]
    yield from (inner for pair in value.items() for inner in pair)


@_inside.register(list)
@_inside.register(tuple)
def _(value: Any) -> Iterator[Any]:
    yield from value


@_inside.register(set)
@_inside.register(frozenset)
def _(value: Any) -> Iterator[Any]:
    yield from sorted(value, key=repr)


@_inside.register(types.FunctionType)
@_inside.register(type)
def _(value: Any) -> Iterator[Any]:
    """What a function or a class consists of; the name, and the code of its file, if it has one."""
    if not _is_live(value):
        file = file_of(value)
        yield _named(f"{value.__module__}.{value.__qualname__}", file)
        return
    if isinstance(value, type):
        yield from value.__bases__
        yield {name: inner for name, inner in vars(value).items() if name not in _INCIDENTAL}
        return
    yield from _parts_of(value)


def _parts_of(value: types.FunctionType) -> Iterator[Any]:
    """The code of a function, and the values that it refers to."""
    code = value.__code__
    yield from (code, value.__defaults__, value.__kwdefaults__)
    for cell in value.__closure__ or ():
        with contextlib.suppress(ValueError):  # not yet filled
            yield cell.cell_contents
    used = sorted(_global_names(code) & value.__globals__.keys())
    yield {name: value.__globals__[name] for name in used}


def _global_names(code: types.CodeType) -> set[str]:
    """Names that a function looks up among the globals, in functions inside it too."""
    own = {
        str(step.argval) for step in dis.get_instructions(code) if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")
    }
    inner = (_global_names(constant) for constant in code.co_consts if isinstance(constant, types.CodeType))
    return own.union(*inner)


def _is_live(value: Any) -> bool:
    """Whether a function or class was made without a file, as in a notebook."""
    module = getattr(value, "__module__", None)
    if module is None or module == "builtins":
        return False
    return (
        getattr(sys.modules.get(module), "__file__", None) is None and module not in sys.builtin_module_names
    )


def _named(name: str, file: str | Path | None) -> str:
    """A module's name, with the digest of its code if it is the user's own."""
    path = Path(file) if file else None
    own = (
        path is not None
        and path.suffix == ".py"
        and not is_installed(path)
        and not name.startswith(f"{BUILT_IN}.")
    )
    return f"{name} {digest_sources(path.resolve(), name)}" if own and path else name
