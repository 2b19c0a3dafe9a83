"""Whether the Hugging Face hub can be asked: once a process, within seconds, instead of minutes for each file."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

ANSWER_WITHIN_S = 4.0
COMMIT_LETTERS = 12  # of a commit's hash, in names of sources
LONGEST_REASON = 300  # characters of another library's message


def ask_early() -> None:
    """Begin to ask the hub, so that it answers while heavy libraries are imported."""
    _answer()


def hub_trouble() -> str:
    """Return why the hub cannot be asked, '' if it can; then only what is in the cache is used, without waiting.

    A hub that never answers takes 6.5 minutes a file otherwise (huggingface_hub asks again six times for 60 s); transformers
    waits for ever (HfApi.model_info has no time limit).
    """
    constants, answer = _answer()
    trouble = answer.result()
    if trouble:
        constants.HF_HUB_OFFLINE = True  # as the variable of that name does
    return trouble


@functools.cache
def _answer() -> tuple[Any, Future[str]]:
    """The settings of the hub's library, and what asking the hub once gives: '' or the reason why it does not answer."""
    constants: Any = importlib.import_module("huggingface_hub.constants")
    session: Any = importlib.import_module("huggingface_hub.utils").get_session()
    address = constants.ENDPOINT

    def ask() -> str:
        try:
            session.head(address, timeout=ANSWER_WITHIN_S)
        except Exception as error:  # noqa: BLE001  each client raises its own exceptions
            return f"{address} does not answer ({type(error).__name__}: {error})"
        return ""

    if constants.HF_HUB_OFFLINE:
        known: Future[str] = Future()
        known.set_result("HF_HUB_OFFLINE is set")
        return constants, known
    return constants, ThreadPoolExecutor(1).submit(ask)


def cached_file(repository: str, files: Sequence[str], revision: str | None = None) -> Path | None:
    """Return the first of these files that is in the hub's cache; None if none is. Its folder is named after the commit."""
    hub: Any = importlib.import_module("huggingface_hub")
    for file in files:
        found = hub.try_to_load_from_cache(repository, file, revision=revision)
        if isinstance(found, str):
            return Path(found)
    return None


def reason(error: BaseException) -> str:
    """Return what stopped a download, in one line: the hub's silence, or else the first error of the chain."""
    if trouble := hub_trouble():
        return trouble
    while (earlier := error.__cause__ or error.__context__) is not None:
        error = earlier
    return " ".join(str(error).split())[:LONGEST_REASON] or type(error).__name__
