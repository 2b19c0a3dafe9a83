"""Every environment variable of vitbench, and where what jobs share is kept."""

from __future__ import annotations

import math
import os
from pathlib import Path

from vitbench.core.errors import Problem, UsageError


def number_from(variable: str, default: float) -> float:
    """A number in an environment variable, else the default.

    Raises:
        UsageError: it is none, or below 0.
    """
    text = os.environ.get(variable, "")
    try:
        number = float(text) if text else default
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise UsageError(
            Problem(
                f"${variable} is {text!r}: it takes a number, 0 or more",
                next_step=f"export {variable}={default:g}",
            )
        )
    return number


def cache_dir() -> Path:
    """Where work that jobs share is kept: $VITBENCH_CACHE, else ~/.cache/vitbench."""
    if custom := os.environ.get("VITBENCH_CACHE"):
        return Path(custom)
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "vitbench"
