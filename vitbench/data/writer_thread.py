"""A thread that writes caches beside the work whose results they hold."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

MOST_BEHIND = 2  # calls that may wait, with what they are to write


class WriterThread:
    """Makes calls one after the other in a thread of its own, which starts with the first.

    An error of a call is raised by a later one, or by `finish`. Leaving the block waits for the call that is being made, and
    drops the others.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1)
        self._waiting: deque[Future[Any]] = deque()

    def __call__(self, function: Callable[..., object], *arguments: Any) -> None:
        """Have this called after all others; waits for the oldest if too many are behind."""
        while len(self._waiting) > MOST_BEHIND:
            self._waiting.popleft().result()
        self._waiting.append(self._pool.submit(function, *arguments))

    def finish(self) -> None:
        """Wait for all calls."""
        while self._waiting:
            self._waiting.popleft().result()

    def __enter__(self) -> Self:
        """The thread itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop after the call that is being made."""
        self._pool.shutdown(wait=True, cancel_futures=True)
