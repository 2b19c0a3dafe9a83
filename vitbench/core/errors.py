"""Errors for users: what was given, where, what is allowed, and what to do next."""

from __future__ import annotations

import difflib
import errno
import functools
import heapq
import itertools
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


@dataclass(frozen=True)
class Problem:
    """One mistake, as the terminal shows it."""

    what: str
    where: str = ""
    nearest: tuple[str, ...] = ()
    next_step: str = ""

    def __str__(self) -> str:
        lines = [f"{self.where}: {self.what}" if self.where else self.what]
        if self.nearest:
            lines.append(f"  did you mean: {' or '.join(self.nearest)}")
        if self.next_step:
            lines.append(f"  next:         {self.next_step}")
        return "\n".join(lines)


MOST_SHOWN = 20  # problems of one error; the others are counted


class VitbenchError(Exception):
    """Base of all errors for users: the command line prints the message without a traceback."""

    exit_code = 1

    def __init__(self, problems: str | Problem | Iterable[Problem]) -> None:
        if isinstance(problems, str):
            problems = Problem(problems)
        if isinstance(problems, Problem):
            problems = (problems,)
        self.problems: tuple[Problem, ...] = tuple(problems)
        super().__init__("\n".join(self.shown()))

    def shown(self) -> list[str]:
        """The first problems as text, how many more there are, and the last one if it says what to do about all."""
        first, rest = self.problems[:MOST_SHOWN], self.problems[MOST_SHOWN:]
        last = rest[-1:] if rest and rest[-1].next_step and not rest[-1].where else ()
        hidden = len(rest) - len(last)
        return [*map(str, first), *([f"and {hidden:,} more"] if hidden else []), *map(str, last)]

    def __reduce__(self) -> tuple[type[VitbenchError], tuple[tuple[Problem, ...]]]:
        return type(self), (self.problems,)


class UsageError(VitbenchError):
    """The command, the suite or a plugin is wrong; nothing was run."""

    exit_code = 2


class UnfilledError(UsageError):
    """An image size is not a multiple of a ViT's patch size; `next_px` is the next larger multiple."""

    def __init__(self, problems: str | Problem | Iterable[Problem], next_px: int) -> None:
        super().__init__(problems)
        self.next_px = next_px

    def __reduce__(self) -> tuple[type[VitbenchError], tuple[tuple[Problem, ...], int]]:  # type: ignore[override]
        return type(self), (self.problems, self.next_px)


class DataMissingError(VitbenchError):
    """Data or weights are missing; the message names the command that gets them, or the folder to put them in."""

    exit_code = 3

    def __init__(self, problems: str | Problem | Iterable[Problem], data_sets: Sequence[str] = ()) -> None:
        super().__init__(problems)
        self.data_sets = tuple(data_sets)


class StartAgainError(VitbenchError):
    """A job of several processes goes on from its checkpoint once they have started again."""


class StorageError(VitbenchError):
    """Results cannot be written: the disk is full, or gone. The run stops; what was written before is intact."""


def is_full(error: BaseException) -> bool:
    """Whether an error means that a disk or a quota is full."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


MOST_LETTERS, LIKELY = 200, 40


@functools.cache
def _pairs(text: str) -> frozenset[str]:
    """Return all pairs of neighbouring letters."""
    return frozenset(a + b for a, b in itertools.pairwise(text.lower()))


def _likely(name: str, known: Sequence[str]) -> list[str]:
    """Return the names that share most letter pairs with `name`: difflib takes 50 ms for a thousand names."""
    if len(known) <= LIKELY:
        return list(known)
    wanted = _pairs(name)
    return heapq.nlargest(LIKELY, known, key=lambda one: len(wanted & _pairs(one)) / (len(one) + len(name)))


def nearest(name: str, names: Iterable[str], most: int = 2) -> tuple[str, ...]:
    """Return the names closest to a misspelt one, best first; names that contain it count as close."""
    known = list(dict.fromkeys(names))
    close = (
        difflib.get_close_matches(name, _likely(name, known), n=most, cutoff=0.6)
        if len(name) <= MOST_LETTERS
        else []
    )
    if len(name) >= 3:
        longer = sorted((one for one in known if one.lower().startswith(name.lower())), key=len)
        within = [one for one in known if name.lower() in one.lower()]
        close = [*longer, *close, *within]
    return tuple(dict.fromkeys(close))[:most]


def unknown(kind: str, name: str, names: Sequence[str], where: str = "") -> Problem:
    """Return the problem of a name that is not registered."""
    return Problem(
        f"unknown {kind} {name!r}",
        where=where,
        nearest=nearest(name, names),
        next_step=f"vitbench list {kind}s",
    )


def first_reason(error: ValidationError) -> str:
    """Return the first of pydantic's errors, with its field."""
    first = error.errors()[0]
    field = ".".join(map(str, first["loc"]))
    return f"{field}: {first['msg']}" if field else str(first["msg"])


MESSAGE_LENGTH = 2000  # characters


def message_of(error: BaseException) -> str:
    """An error's message as a record can hold it, whatever the error."""
    try:
        return storable(str(error))
    except Exception:  # noqa: BLE001  a plugin's error may have any text, or none
        return "(its message cannot be shown)"


def storable(text: str) -> str:
    """Text without lone surrogates, which occur in file names that are not UTF-8, cut to 2,000 characters."""
    return text[:MESSAGE_LENGTH].encode(errors="backslashreplace").decode()


def source_line_of(error: BaseException) -> str:
    """The source line that raised an error, as `file.py:12`; '' if it has no traceback."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
