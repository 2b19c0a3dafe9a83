"""Starting worker processes from a server that has imported torch and timm once, and ending some of them."""

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
    """The multiprocessing context of workers. Call it early: the server imports while the driver does.

    Without a server (no Unix socket at $TMPDIR, or not Linux), each worker imports for itself.
    """
    if sys.platform == "linux":
        from multiprocessing import forkserver, resource_tracker

        forkserver.set_forkserver_preload([PRELOADED])
        resource_tracker.ensure_running()  # which it would start by itself, and unblock interrupts
        with contextlib.suppress(OSError), _same_modules(), _later_interrupts():
            forkserver.ensure_running()
            return multiprocessing.get_context("forkserver")
    return multiprocessing.get_context("spawn")


@contextlib.contextmanager
def _later_interrupts() -> Iterator[None]:
    """Ctrl-C waits for the end of the block; processes started within it block Ctrl-C from the beginning.

    Ignored instead of noted, one that another thread takes would be lost.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    before = signal.signal(signal.SIGINT, lambda number, _frame: came.append(number))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, before)
        if came:
            signal.raise_signal(signal.SIGINT)


def leave(code: int) -> NoReturn:
    """End a process that has trained with others, without finalising the interpreter.

    After FSDP2, gloo's threads outlive their process group; one that still holds a tensor then aborts the process
    (https://github.com/pytorch/pytorch/issues/190489).
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


@contextlib.contextmanager
def _same_modules() -> Iterator[None]:
    """Make the server import from the same paths as its driver; by default it would search the current folder first."""
    changed = {"PYTHONSAFEPATH": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    before = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    try:
        yield
    finally:
        restore(before)


def restore(environment: dict[str, str | None]) -> None:
    """Restore environment variables; None means not set."""
    for name, value in environment.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
