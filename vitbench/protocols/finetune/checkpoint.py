"""Checkpoints of fine-tuning, so that an interrupted job can resume: written atomically, and verified when read.

Each job has one folder, with a checkpoint per unfinished run and a JSON file per finished trial, deleted when the job succeeds.
Training waits for a snapshot only, which is hashed and written in a thread.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch

from vitbench.compute.meter import Span, credit, move, outside, so_far
from vitbench.core.errors import StartAgainError
from vitbench.core.files import read_checked, write_checked
from vitbench.core.settings import CHECKPOINT_S, number_from
from vitbench.protocols.finetune.snapshot import all_copied

EVERY_S = number_from(CHECKPOINT_S, 60)  # between two checkpoints of a run
COST_SHARE = 0.02  # largest fraction of the time spent on writing checkpoints


@dataclass(frozen=True)
class Written:
    """When writing a checkpoint began and ended, on the monotonic clock, and the core-seconds of its thread."""

    begun_s: float
    ended_s: float
    core_seconds: float

    def core_seconds_until(self, time_s: float) -> float:
        """The core-seconds that passed until a time, as if they were spread evenly."""
        passed = min(time_s, self.ended_s) - self.begun_s
        return self.core_seconds * passed / max(self.ended_s - self.begun_s, 1e-9)


@dataclass
class Checkpoints:
    """The checkpoints of one job's runs; without a folder none are written. Leaving the block waits for what is being written.

    `took_s` is the time of the last one, snapshot included.
    """

    folder: Path | None
    stop: list[int] = field(default_factory=list)
    before: dict[int, Any] = field(default_factory=dict)
    took_s: float = 0.0
    pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "checkpoint"))
    writing: Future[Written] | None = None

    def __enter__(self) -> Self:
        """The checkpoints themselves."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for what is being written; raise its error unless there is another one.

        Raises:
            OSError: the last checkpoint could not be written.
        """
        try:
            if error is None:
                self.wait()
        finally:
            self.pool.shutdown(wait=True)

    def write(self, name: str, state: dict[str, Any], copied: Callable[[], None]) -> None:
        """Have the thread write a state, once it has been copied."""
        path = (self.folder or Path()) / name
        self.writing = self.pool.submit(_write, path, state, copied)

    @property
    def is_writing(self) -> bool:
        """Whether the thread is at work."""
        return self.writing is not None and not self.writing.done()

    def wait(self) -> None:
        """Wait for what is being written.

        Raises:
            OSError: it could not be written.
        """
        if self.writing is None:
            return
        writing, self.writing = self.writing, None
        waits_from_s = time.monotonic()
        with outside("checkpoints"):
            written = writing.result()
        self.took_s += written.ended_s - written.begun_s
        move(written.core_seconds_until(waits_from_s), "checkpoints")

    def checkpoint(self, name: str, recipe: dict[str, Any]) -> Checkpoint:
        """Return the checkpoint of a run; its file name includes a digest of the recipe."""
        return Checkpoint(self, f"{name}-{_digest(recipe)}.pt")

    def done(self, name: str, recipe: dict[str, Any]) -> dict[str, Any] | None:
        """Return the outcome of a finished trial; None if there is none, or if its file is damaged."""
        if self.folder is None:
            return None
        try:
            found: dict[str, Any] = json.loads(read_checked(self.folder / f"{name}-{_digest(recipe)}.json"))
        except (OSError, ValueError):
            return None
        return found

    def finish(self, name: str, recipe: dict[str, Any], outcome: dict[str, Any]) -> None:
        """Write the outcome of a finished trial, and delete its checkpoint."""
        self.wait()
        if self.folder is not None and _writes():
            stem = f"{name}-{_digest(recipe)}"
            write_checked(self.folder / f"{stem}.json", json.dumps(outcome).encode("utf-8"))
            (self.folder / f"{stem}.pt").unlink(missing_ok=True)

    @contextlib.contextmanager
    def delaying_signals(self) -> Iterator[None]:
        """Delay SIGTERM and SIGINT until the current step's checkpoint is written; a second signal acts immediately."""
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
            self.restore_handlers()

    def restore_handlers(self) -> None:
        """Restore the signal handlers from before `delaying_signals`."""
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def most_images(self) -> int:
        """The largest piece, in images, that this job may try: smaller than any that memory has run out for."""
        try:
            return int(read_checked(self._pieces)) if self.folder else sys.maxsize
        except (OSError, ValueError):
            return sys.maxsize

    def start_smaller(self, images: int) -> None:
        """Have the job start again, in pieces of less than so many images, as far as there are any.

        Raises:
            StartAgainError: always, where a smaller piece can be tried.
        """
        if self.folder is None or images == 1:
            return
        smaller = 2 ** ((images - 1).bit_length() - 1)  # the next smaller power of two
        self.folder.mkdir(parents=True, exist_ok=True)
        write_checked(self._pieces, str(smaller).encode())
        raise StartAgainError(
            f"memory ran out for {images} images of a model that is spread over several processes; they start again "
            f"from the last checkpoint, with {smaller}"
        )

    @property
    def _pieces(self) -> Path:
        return (self.folder or Path()) / "pieces.txt"


@dataclass
class Checkpoint:
    """The checkpoint of one run."""

    owner: Checkpoints
    name: str
    kept_at: float = field(default_factory=time.monotonic)
    begun: Span = field(default_factory=so_far)

    def keep(self, trainer: Any) -> None:
        """Write a checkpoint if it is due, after the last step, or when a signal asks the process to stop; then stop.

        Raises:
            OSError: the one before could not be written.
        """
        owner, stop = self.owner, self.owner.stop
        if owner.folder is None:
            return
        is_last = trainer.steps_done == trainer.recipe.steps
        wanted = (_writes() and self._is_due()) or bool(stop) or is_last
        keeps, stops = trainer.agree(wanted, bool(stop))
        if keeps:
            self._keep(trainer)
        if stops:
            owner.wait()
            number = stop.pop() if stop else signal.SIGTERM  # another rank received the signal
            owner.restore_handlers()
            signal.raise_signal(number)  # let the signal act now

    def _keep(self, trainer: Any) -> None:
        owner = self.owner
        owner.wait()
        taken = so_far().since(self.begun)
        self.kept_at = time.monotonic()
        with outside("checkpoints"):
            state = {**trainer.state(), "taken": asdict(taken)}
            if _writes():
                owner.write(self.name, state, all_copied(torch.device(trainer.device)))
        owner.took_s = time.monotonic() - self.kept_at

    def _is_due(self) -> bool:
        if not EVERY_S:
            return True
        wait_s = max(EVERY_S, self.owner.took_s / COST_SHARE)
        return not self.owner.is_writing and time.monotonic() - self.kept_at >= wait_s

    def read(self) -> dict[str, Any] | None:
        """Return the state, on the CPU; None if there is none, or if the file is damaged or does not say what it took.

        What the run had taken counts as part of the job.
        """
        if self.owner.folder is None:
            return None
        self.owner.wait()
        try:
            with outside("checkpoints"):
                file = io.BytesIO(read_checked(self.owner.folder / self.name))
                state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        except (OSError, ValueError):
            return None
        if "taken" not in state:
            return None
        credit(Span(**state["taken"]))
        return state


def _write(path: Path, state: dict[str, Any], copied: Callable[[], None]) -> Written:
    """Write a state, and empty it: whoever waits for this finds its memory free, though the pool holds the call still."""
    begun_s, core_seconds = time.monotonic(), time.thread_time()
    copied()
    buffer = io.BytesIO()
    torch.save(state, buffer)
    state.clear()
    write_checked(path, buffer.getbuffer())
    return Written(begun_s, time.monotonic(), time.thread_time() - core_seconds)


def _writes() -> bool:
    """Return whether this process writes checkpoints: in a distributed run only rank 0 does."""
    return os.environ.get("RANK", "0") == "0"


def _digest(recipe: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:12]
