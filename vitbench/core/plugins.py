"""Loading plugins: installed entry points, and `--plugin FILE|MODULE`."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from vitbench.core.errors import Problem, UsageError, message_of, source_line_of
from vitbench.core.registry import loading
from vitbench.core.source_files import digest_sources, source_files

GROUP = "vitbench.plugins"
MESSAGE_AFTER_S, STOP_AFTER_S = 5.0, 120.0  # of a plugin's import: until a message, until it is stopped


@dataclass(frozen=True)
class LoadedPlugin:
    """A plugin: its name, its origin, and the error of its import, if any."""

    name: str
    origin: str
    trouble: str = ""

    @property
    def warning(self) -> str:
        """The warning about a plugin that could not be loaded."""
        return f"plugin {self.name} ({self.origin}) was not loaded: {self.trouble}"


def load_plugins(explicit: Iterable[str] = ()) -> list[LoadedPlugin]:
    """Register installed plugins, then those named on the command line.

    A plugin that raises is returned with its error; everything else stays usable.

    Raises:
        UsageError: a named file or module does not exist.
    """
    return [*_installed(), *(_load_named(name) for name in explicit)]


@cache
def _installed() -> tuple[LoadedPlugin, ...]:
    return tuple(_load_entry_point(point) for point in sorted(entry_points(group=GROUP)))


def _load_entry_point(point: EntryPoint) -> LoadedPlugin:
    package = f"{point.dist.name} {point.dist.version}" if point.dist else point.value
    with loading(package):
        return LoadedPlugin(point.name, package, _trouble(point.load))


_loaded: dict[str, tuple[LoadedPlugin, str]] = {}  # by name, with the digest of the code that was imported


def _load_named(name: str) -> LoadedPlugin:
    """Import a plugin, unless its code has not changed since this process did."""
    file, module = _source_of(name)
    digest = digest_sources(file, module) if file else ""
    known = _loaded.get(name)
    if known and known[1] == digest:
        return known[0]
    if known and file:
        _forget(source_files(file, module))
    _loaded[name] = (_import_named(name), digest)
    return _loaded[name][0]


def _source_of(name: str) -> tuple[Path | None, str]:
    """The file of a plugin, and its module's name if it is named as one; None if it cannot be found."""
    if Path(name).suffix == ".py":
        return (Path(name).resolve() if Path(name).is_file() else None), ""
    with contextlib.suppress(Exception):  # finding a submodule imports its package
        found = importlib.util.find_spec(name)
        if found and found.origin and Path(found.origin).is_file():
            return Path(found.origin).resolve(), name
    return None, name


def _forget(sources: Iterable[Path]) -> None:
    """Let modules that come from these files be imported anew.

    Their cached bytecode goes: Python takes it for current after an edit within a second that leaves the size as it was.
    """
    changed = {str(source) for source in sources}
    for source in changed:
        with contextlib.suppress(OSError, NotImplementedError):
            Path(importlib.util.cache_from_source(source)).unlink(missing_ok=True)
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name != "__main__" and file and str(Path(file).resolve()) in changed:
            del sys.modules[name]
    importlib.invalidate_caches()


def _import_named(name: str) -> LoadedPlugin:
    path = Path(name)
    if path.suffix == ".py":
        if not path.is_file():
            raise UsageError(f"--plugin {name}: no such file")
        return LoadedPlugin(path.stem, str(path), _trouble(lambda: _import_file(path)))
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        found = None
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001  finding a submodule imports its package
        return LoadedPlugin(name, "module", f"{type(error).__name__}: {message_of(error)}")
    if found is None:
        raise UsageError(
            Problem(
                f"--plugin {name}: no such module; a file name ends in .py",
                next_step=f"pip install the package of {name}, or --plugin path/to/{name}.py",
            )
        )
    return LoadedPlugin(name, "module", _trouble(lambda: importlib.import_module(name)))


def _import_file(path: Path) -> None:
    """Import a file under a unique module name, without changing sys.path."""
    unique = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]
    name = f"vitbench_plugin_{path.stem}_{unique}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise


def _trouble(load: Callable[[], object]) -> str:
    try:
        with (
            contextlib.redirect_stdout(sys.stderr),
            _time_limit(),
        ):  # a plugin's prints are not part of our output
            load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001  a plugin may raise anything
        return f"{type(error).__name__}: {message_of(error)} ({source_line_of(error)})"
    return ""


@contextlib.contextmanager
def _time_limit() -> Iterator[None]:
    """Within the block, a message appears after a few seconds of importing, and the import is stopped after two minutes."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def ring(_number: int, _frame: object) -> None:
        if time.monotonic() - begun > STOP_AFTER_S:
            raise TimeoutError(f"its import has not ended in {STOP_AFTER_S:.0f} s")
        print("still importing a plugin …", file=sys.__stderr__)

    begun, before = time.monotonic(), signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, MESSAGE_AFTER_S, MESSAGE_AFTER_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
