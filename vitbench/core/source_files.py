"""The user's own source files behind a component: its file, its package, and what these import."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import inspect
import os
import re
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vitbench.core.digest import SYSTEM_FOLDERS
from vitbench.core.files import digest_bytes

_IMPORT = re.compile(r"^[ \t]*(?:from[ \t]+(?P<source>\w+)|import[ \t]+(?P<names>[\w., \t]+))", re.MULTILINE)
_BY_NAME = re.compile(r"""(?:import_module|__import__)\(\s*["'](\w+)""")
BUILT_IN = "vitbench"


def digest_sources(file: Path, module: str = "") -> str:
    """SHA-256, shortened, of a Python file and all of the user's own source that it may import."""
    parts = []
    for root, source in _sources(file, module):
        parts += [source.relative_to(root).as_posix().encode(), source.read_bytes()]
    return digest_bytes(*parts)[:12]


def source_files(file: Path, module: str = "") -> list[Path]:
    """A Python file, its package, and what they import from the user's own folders, directly or not."""
    return [source for _, source in _sources(file, module)]


def file_of(build: Any) -> Path | None:
    """The file that a component was read from; None if it was made in a notebook or a prompt."""
    with contextlib.suppress(TypeError, OSError):
        file = Path(inspect.getfile(_innermost(build)))
        if file.is_file():
            return file.resolve()
    return None


def _innermost(build: Any) -> Any:
    while isinstance(build, functools.partial):
        build = build.func
    build = inspect.unwrap(build)
    return build if inspect.isroutine(build) or inspect.isclass(build) else type(build)


def _sources(file: Path, module: str) -> Iterator[tuple[Path, Path]]:
    """Pairs of a folder and a source file below it, sorted within each package."""
    waiting, seen = [_package_of(file, module)], set[Path]()
    while waiting:
        place = waiting.pop(0)
        if place in seen:
            continue
        seen.add(place)
        found = [place] if place.is_file() else list(_python_files(place))
        for source in found:
            yield place.parent, source
        names = {name for source in found for name in imported_names(source)}
        waiting += filter(None, (_own_place(name, place.parent) for name in sorted(names)))


def _package_of(file: Path, module: str) -> Path:
    """The folder of the outermost package that a module stands in; the file itself if it stands in none."""
    if is_installed(file):
        return file
    depth = module.count(".")
    if depth and file.stem == "__init__":
        depth += 1
    by_name = file.parents[depth - 1] if 0 < depth <= len(file.parents) else file
    folder = file
    while (folder.parent / "__init__.py").is_file():
        folder = folder.parent
    return min(folder, by_name, key=lambda path: len(path.parts))


def _python_files(folder: Path) -> Iterator[Path]:
    """Python files of a package, in sorted order; folders without any, such as data, are not entered."""
    with os.scandir(folder) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    files = [Path(entry.path) for entry in found if entry.name.endswith(".py") and entry.is_file()]
    yield from files
    if files:
        for entry in found:
            if entry.is_dir() and entry.name not in SYSTEM_FOLDERS and not entry.name.startswith("."):
                yield from _python_files(Path(entry.path))


def imported_names(source: Path) -> frozenset[str]:
    """Names of top-level modules that a file imports anywhere in it."""
    return _imported_names(source.read_text(encoding="utf-8", errors="replace"))


@functools.lru_cache(maxsize=512)  # each component of a package asks for all its files
def _imported_names(text: str) -> frozenset[str]:
    found = set(_BY_NAME.findall(text))
    for match in _IMPORT.finditer(text):
        names = match["source"] or match["names"]
        found |= {re.split(r"[. \t]", part.strip())[0] for part in names.split(",")}
    return frozenset(found - {""})


def _own_place(name: str, folder: Path) -> Path | None:
    """Where a module of the user's own lies: beside the file that imports it, or on the path; None for libraries."""
    if name in sys.stdlib_module_names or name == BUILT_IN:
        return None
    for beside in (folder / f"{name}.py", folder / name):
        if beside.is_file() or (beside.is_dir() and next(_python_files(beside), None)):
            return None if is_installed(beside) else beside.resolve()
    spec = getattr(sys.modules.get(name), "__spec__", None)
    if spec is None:
        with contextlib.suppress(Exception):  # a module path of someone else's making
            spec = importlib.util.find_spec(name)
    if spec is None:
        return None
    places = list(spec.submodule_search_locations or ()) or [spec.origin or ""]
    own = [
        Path(place) for place in places if place and Path(place).exists() and not is_installed(Path(place))
    ]
    return own[0].resolve() if own else None


def is_installed(path: Path) -> bool:
    """Whether a file belongs to Python or to an installed package, whose version is enough."""
    if {"site-packages", "dist-packages"} & set(path.parts):
        return True
    library = Path(sysconfig.get_path("stdlib"))
    return path.is_relative_to(library) or path.is_relative_to(library.resolve())
