"""Where training runs leave their state, so that a job that is cut off goes on: written whole or not at all, checked when read.

A shelf is a folder of one job. It holds a state per run and a line per finished trial, and is deleted with the job's success.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from vitbench.core.files import read_checked, write_checked
from vitbench.core.settings import number_from

EVERY_S = number_from("VITBENCH_CHECKPOINT_S", 60)  # between two states of a run
COST_SHARE = 0.02  # of the time may go into keeping states


@dataclass
class Checkpoints:
    """The states of one job's runs; without a folder nothing is kept."""

    folder: Path | None
    stop: list[int] = field(default_factory=list)
    before: dict[int, Any] = field(default_factory=dict)

    def place(self, name: str, recipe: dict[str, Any]) -> Checkpoint:
        """Where one run's state lies."""
        return Checkpoint(self, f"{name}-{_digest(recipe)}.pt")

    def done(self, name: str, recipe: dict[str, Any]) -> dict[str, Any] | None:
        """What a finished trial came to; None if that is not as it was written."""
        if self.folder is None:
            return None
        try:
            found: dict[str, Any] = json.loads(read_checked(self.folder / f"{name}-{_digest(recipe)}.json"))
        except (OSError, ValueError):
            return None
        return found

    def finish(self, name: str, recipe: dict[str, Any], outcome: dict[str, Any]) -> None:
        """Keep what a trial came to, and its state no longer."""
        if self.folder is not None and _writes():
            stem = f"{name}-{_digest(recipe)}"
            write_checked(self.folder / f"{stem}.json", json.dumps(outcome).encode("utf-8"))
            (self.folder / f"{stem}.pt").unlink(missing_ok=True)

    @contextlib.contextmanager
    def minding_signals(self) -> Iterator[None]:
        """Within the block SIGTERM and SIGINT wait until the step is done and its state is kept; a second one does not."""
        if self.folder is None or threading.current_thread() is not threading.main_thread():
            yield
            return
        self.before = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)}

        def note(number: int, _frame: Any) -> None:
            self.stop.append(number)
            signal.signal(number, self.before[number])

        for number, handler in self.before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, note)
        try:
            yield
        finally:
            self.let_go()

    def let_go(self) -> None:
        """Signals do again what they did before we minded them."""
        for number, handler in self.before.items():
            signal.signal(number, handler)


@dataclass
class Checkpoint:
    """One run's state."""

    shelf: Checkpoints
    name: str
    kept_at: float = field(default_factory=time.monotonic)
    took_s: float = 0.0

    def keep(self, trainer: Any) -> None:
        """Keep the state if it is time, at the end, and when the process has been asked to stop, which it then does."""
        folder, stop = self.shelf.folder, self.shelf.stop
        if folder is None:
            return
        is_last = trainer.steps_done == trainer.recipe.steps
        keeps, stops = trainer.agree(self._is_due() or bool(stop) or is_last, bool(stop))
        if keeps:
            begun = time.monotonic()
            state = trainer.state()
            if _writes():
                self._write(folder, state)
            self.kept_at = time.monotonic()
            self.took_s = self.kept_at - begun
        if stops:
            number = stop.pop() if stop else signal.SIGTERM  # another process of ours was asked
            self.shelf.let_go()
            signal.raise_signal(number)  # what was to happen before we minded

    def _is_due(self) -> bool:
        wait_s = max(EVERY_S, self.took_s / COST_SHARE) if EVERY_S else 0
        return time.monotonic() - self.kept_at >= wait_s

    def _write(self, folder: Path, state: dict[str, Any]) -> None:
        buffer = io.BytesIO()
        torch.save(state, buffer)
        write_checked(folder / self.name, buffer.getvalue())

    def read(self) -> dict[str, Any] | None:
        """The kept state, on the CPU; None if there is none, or if it is not as it was written."""
        if self.shelf.folder is None:
            return None
        try:
            file = io.BytesIO(read_checked(self.shelf.folder / self.name))
        except (OSError, ValueError):
            return None
        state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        return state


def _writes() -> bool:
    """Of several processes that train together the first one writes."""
    return os.environ.get("RANK", "0") == "0"


def _digest(recipe: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:12]
