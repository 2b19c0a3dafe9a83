"""Three doors, one decorator: entry points, `--plugin FILE|MODULE`, and whatever a script registered itself."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from vitbench.core.errors import Problem, UsageError
from vitbench.core.registry import loading

GROUP = "vitbench.plugins"
TELL_S, STOP_S = 5.0, 120.0  # of a plugin's import: until it is told, until it is given up


@dataclass(frozen=True)
class LoadedPlugin:
    """One plugin: its name, where it came from, and what went wrong, if anything."""

    name: str
    origin: str
    trouble: str = ""

    @property
    def warning(self) -> str:
        """The sentence that tells a user about a broken plugin."""
        return f"plugin {self.name} ({self.origin}) was not loaded: {self.trouble}"


def load_all(explicit: Iterable[str] = ()) -> list[LoadedPlugin]:
    """Register what ships with vitbench, then installed plugins, then those named on the command line.

    A plugin that raises is returned with its trouble and leaves everything else usable.

    Raises:
        UsageError: a named file or module does not exist.
    """
    for package in ("backbones", "tasks", "protocols"):
        importlib.import_module(f"vitbench.{package}")
    return [*_installed(), *(_load_named(name) for name in explicit)]


@cache
def _installed() -> tuple[LoadedPlugin, ...]:
    return tuple(_load_entry_point(point) for point in sorted(entry_points(group=GROUP)))


def _load_entry_point(point: EntryPoint) -> LoadedPlugin:
    package = f"{point.dist.name} {point.dist.version}" if point.dist else point.value
    with loading(package):
        return LoadedPlugin(point.name, package, _trouble(point.load))


@cache
def _load_named(name: str) -> LoadedPlugin:
    path = Path(name)
    if path.suffix == ".py":
        if not path.is_file():
            raise UsageError(f"--plugin {name}: there is no such file")
        return LoadedPlugin(path.stem, str(path), _trouble(lambda: _import_file(path)))
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        found = None
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001  finding a submodule imports its package
        return LoadedPlugin(name, "module", f"{type(error).__name__}: {_said(error)}")
    if found is None:
        raise UsageError(
            Problem(
                f"--plugin {name}: there is no such module; a file ends in .py",
                next_step=f"pip install the package of {name}, or --plugin path/to/{name}.py",
            )
        )
    return LoadedPlugin(name, "module", _trouble(lambda: importlib.import_module(name)))


def _import_file(path: Path) -> None:
    """Import a file under a name of its own, without touching sys.path."""
    unique = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]
    name = f"vitbench_plugin_{path.stem}_{unique}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not Python")
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
            _patience(),
        ):  # what a plugin prints is no part of our output
            load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001  somebody else's code: it may raise anything
        frames = traceback.extract_tb(error.__traceback__)
        place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
        return f"{type(error).__name__}: {_said(error)}{place}"
    return ""


def _said(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001  its own words may fail as well
        return "(it cannot say what)"


@contextlib.contextmanager
def _patience() -> Iterator[None]:
    """Within the block it is said after a few seconds that a plugin is being imported, and stopped after two minutes."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def ring(_number: int, _frame: object) -> None:
        if time.monotonic() - begun > STOP_S:
            raise TimeoutError(f"its import has not ended in {STOP_S:.0f} s")
        print("still importing a plugin …", file=sys.__stderr__)

    begun, before = time.monotonic(), signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, TELL_S, TELL_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
