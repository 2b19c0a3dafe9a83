"""Heartbeats: what each running job of a run directory is doing, one small file per job, for progress on any machine.

They are written at most once a second, never flushed to disk, and used for nothing but progress.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vitbench.core.files import read_file

EVERY_S = 1.0


class Heartbeat(BaseModel):
    """A running job as it was last seen."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str = Field(pattern=r"^[0-9a-f]{24}$")
    title: str
    phase: str
    done: int
    total: int
    host: str
    pid: int
    device: str
    started_s: float
    seen_s: float

    @property
    def is_dead(self) -> bool:
        """Whether the process has ended; known only on its own machine."""
        if self.host != socket.gethostname():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except (PermissionError, OverflowError):
            return False
        return False


@dataclass
class HeartbeatWriter:
    """Writes the heartbeat of one job while it runs; without a folder it does nothing."""

    folder: Path | None
    key: str
    title: str
    device: str
    started_s: float = field(default_factory=time.time)
    _due_s: float = 0.0
    _phase: str = ""

    def update(self, phase: str, done: int = 0, total: int = 0) -> None:
        """Write the job's progress, at most once a second within a phase."""
        now_s = time.monotonic()
        if self.folder is None or (phase == self._phase and now_s < self._due_s):
            return
        self._phase, self._due_s = phase, now_s + EVERY_S
        heartbeat = Heartbeat(
            key=self.key, title=self.title, phase=phase, done=done, total=total, host=socket.gethostname(),
            pid=os.getpid(), device=self.device, started_s=self.started_s, seen_s=time.time(),
        )  # fmt: skip
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            draft = self.folder / f".{self.key}.{os.getpid()}"
            draft.write_text(heartbeat.model_dump_json(), encoding="utf-8")
            draft.replace(self.folder / f"{self.key}.json")
        except OSError:  # progress lines must not make a job fail
            self.folder = None

    def clear(self) -> None:
        """Delete the heartbeat: the job has ended."""
        if self.folder is not None:
            (self.folder / f"{self.key}.json").unlink(missing_ok=True)


def read_all(folder: Path) -> Iterator[Heartbeat]:
    """Yield all readable heartbeats, oldest job first."""
    found = []
    for path in folder.glob("*.json"):
        try:
            heartbeat = Heartbeat.model_validate_json(read_file(path))
        except (OSError, ValidationError):
            continue
        if heartbeat.key == path.stem:
            found.append(heartbeat)
    yield from sorted(found, key=lambda heartbeat: (heartbeat.started_s, heartbeat.key))


def was_abandoned(folder: Path, key: str) -> bool:
    """Whether a job was killed: its process on this machine has ended without clearing its heartbeat."""
    try:
        return Heartbeat.model_validate_json(read_file(folder / f"{key}.json")).is_dead
    except (OSError, ValidationError):
        return False
