"""Where worker processes come from: forked off a server that has imported torch and timm once. How some end."""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from multiprocessing.context import BaseContext
from typing import NoReturn

PRELOADED = "vitbench.engine.executors.fork_server_imports"


def context() -> BaseContext:
    """How processes are started; the server imports while its driver does, so call this early.

    Where there can be no server (no Unix socket at $TMPDIR, another system than Linux), each worker imports for itself.
    """
    if sys.platform == "linux":
        from multiprocessing import forkserver

        forkserver.set_forkserver_preload([PRELOADED])
        with contextlib.suppress(OSError), _same_modules(), _deaf():
            forkserver.ensure_running()
            return multiprocessing.get_context("forkserver")
    return multiprocessing.get_context("spawn")


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """What is started within the block never hears Ctrl-C, from its first moment: its driver decides what that means."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def leave(code: int) -> NoReturn:
    """End a process that has trained with others, all but the interpreter's own end.

    After FSDP2 gloo's threads outlive their group; one that still holds a tensor then aborts the process
    (https://github.com/pytorch/pytorch/issues/190489).
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


@contextlib.contextmanager
def _same_modules() -> Iterator[None]:
    """Have the server import from where its driver does: on its own it would look into the current folder first."""
    changed = {"PYTHONSAFEPATH": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    before = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    try:
        yield
    finally:
        restore(before)


def restore(environment: dict[str, str | None]) -> None:
    """Set environment variables to what they were; None is not set."""
    for name, value in environment.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
