"""Preparation of several data sets, some at once: what one lacks stops only that one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from vitbench.core.errors import DataMissingError, Problem, UsageError, VitbenchError
from vitbench.core.format import file_size
from vitbench.data.tfds.dataset import DataSet, data_dir
from vitbench.data.tfds.prepare import check_before, prepare
from vitbench.data.tfds.status import missing_manual, needed_bytes, status_of

LOOK_EVERY_S = 1.0

Say = Callable[[str], None]
Show = Callable[[int, int, str], None]  # how many of how many are done, and what is under way


def check_all(chosen: Sequence[DataSet]) -> None:
    """Check what would end everything before hours are spent on the first; files to fetch by hand end only their own.

    Raises:
        UsageError: TensorFlow is not installed, or the disk is too small for one of them.
    """
    problems: list[Problem] = []
    for one in chosen:
        if status_of(one).state == "ready" or missing_manual(one):
            continue
        try:
            check_before(one)
        except UsageError as error:
            problems += error.problems
        except DataMissingError:  # said when its turn comes
            continue
    if problems:
        raise UsageError(list(dict.fromkeys(problems)))


@dataclass
class _Disk:
    """The disk space that data sets under way still need: two at once must both fit."""

    _needed: dict[str, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, one: DataSet) -> None:
        """Note what a data set needs, if it is free.

        Raises:
            VitbenchError: see `check_before`.
        """
        with self._lock:
            check_before(one, sum(self._needed.values()))
            self._needed[one.name] = needed_bytes(one)

    def give_back(self, one: DataSet) -> None:
        """It is done."""
        with self._lock:
            self._needed.pop(one.name, None)


def prepare_all(
    chosen: Sequence[DataSet], file_format: str, at_once: int, say: Say, show: Show
) -> list[Problem]:
    """Prepare data sets, `at_once` in parallel, then with TFDS's output in files; returns what was wrong with which.

    Raises:
        UsageError: see `check_all`.
    """
    check_all(chosen)
    problems: list[Problem] = []
    disk, done = _Disk(), 0
    logs = data_dir() / "prepare-logs" if at_once > 1 else None

    def one_of(one: DataSet) -> str:
        if status_of(one).state == "ready":
            return "was ready"
        disk.take(one)
        try:
            if logs is None:
                say(f"{one.name}: preparing")
            return f"ready, {file_size(prepare(one, file_format, logs).size_bytes)}"
        finally:
            disk.give_back(one)

    with ThreadPoolExecutor(at_once) as pool:
        futures: dict[Future[str], DataSet] = {pool.submit(one_of, one): one for one in chosen}
        left = set(futures)
        try:
            while left:
                ended, left = wait(left, timeout=LOOK_EVERY_S, return_when=FIRST_COMPLETED)
                for future in (each for each in futures if each in ended):  # in the order asked for
                    done += 1
                    try:
                        say(f"{futures[future].name}: {future.result()} ({done} of {len(chosen)})")
                    except VitbenchError as error:  # it must not stop the others
                        problems += error.problems
                        say(f"{futures[future].name}: not prepared ({done} of {len(chosen)})")
                show(done, len(chosen), _under_way([futures[future] for future in left if future.running()]))
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return problems


def _under_way(running: Sequence[DataSet]) -> str:
    """The data sets under way, with what has come of them so far."""
    return ", ".join(f"{one.name} {file_size(_bytes_so_far(one))}" for one in running)


def _bytes_so_far(one: DataSet) -> int:
    """Of a data set's own folder; what is downloaded lies beside, under names that do not tell whose it is."""
    total = 0
    for path in (data_dir() / one.builder).rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:  # renamed meanwhile
            continue
    return total
