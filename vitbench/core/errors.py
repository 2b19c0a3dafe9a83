"""A user's mistakes: what was given, where, what is allowed, and what to do next."""

from __future__ import annotations

import difflib
import errno
import functools
import heapq
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


@dataclass(frozen=True)
class Problem:
    """One mistake, in the words that the terminal shows."""

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


class VitbenchError(Exception):
    """Base of every error whose message is for the user: the command line prints it, no traceback."""

    exit_code = 1

    def __init__(self, problems: str | Problem | Iterable[Problem]) -> None:
        if isinstance(problems, str):
            problems = Problem(problems)
        if isinstance(problems, Problem):
            problems = (problems,)
        self.problems: tuple[Problem, ...] = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))

    def __reduce__(self) -> tuple[type[VitbenchError], tuple[tuple[Problem, ...]]]:
        return type(self), (self.problems,)


class UsageError(VitbenchError):
    """The command, the suite or a plugin asks for something that does not exist; nothing started."""

    exit_code = 2


class UnfilledError(UsageError):
    """A ViT's patches do not fill an image of the size asked for; `next_px` is the next larger that they do."""

    def __init__(self, problems: str | Problem | Iterable[Problem], next_px: int) -> None:
        super().__init__(problems)
        self.next_px = next_px

    def __reduce__(self) -> tuple[type[VitbenchError], tuple[tuple[Problem, ...], int]]:  # type: ignore[override]
        return type(self), (self.problems, self.next_px)


class DataMissingError(VitbenchError):
    """Data or weights are not there; the message names the command or the folder that helps."""

    exit_code = 3

    def __init__(self, problems: str | Problem | Iterable[Problem], data_sets: Sequence[str] = ()) -> None:
        super().__init__(problems)
        self.data_sets = tuple(data_sets)


class StorageError(VitbenchError):
    """What is to be kept cannot be written: the disk is full, or gone. It stops a run; what was written before stays whole."""


def is_full(error: BaseException) -> bool:
    """Whether an error says that a disk or a quota is full."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


MOST_LETTERS, LIKELY = 200, 40


@functools.cache
def _pairs(text: str) -> frozenset[str]:
    """Neighbouring letters."""
    return frozenset(a + b for a, b in itertools.pairwise(text.lower()))


def _likely(name: str, known: Sequence[str]) -> list[str]:
    """Of many names those that share most with one: difflib takes a twentieth of a second over a thousand."""
    if len(known) <= LIKELY:
        return list(known)
    wanted = _pairs(name)
    return heapq.nlargest(LIKELY, known, key=lambda one: len(wanted & _pairs(one)) / (len(one) + len(name)))


def nearest(name: str, names: Iterable[str], most: int = 2) -> tuple[str, ...]:
    """The names closest to a misspelt one, best first; a unique continuation counts as close."""
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
    """The problem of a name that nothing is registered under."""
    return Problem(
        f"unknown {kind} {name!r}",
        where=where,
        nearest=nearest(name, names),
        next_step=f"vitbench list {kind}s",
    )


def first_reason(error: ValidationError) -> str:
    """The first of pydantic's complaints, after the field that it is about."""
    first = error.errors()[0]
    field = ".".join(map(str, first["loc"]))
    return f"{field}: {first['msg']}" if field else str(first["msg"])
