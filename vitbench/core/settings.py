"""Every environment variable that vitbench reads, and the directory of cached work.

| variable | meaning | default |
|---|---|---|
| VITBENCH_CACHE | directory of cached features and decoded images | $XDG_CACHE_HOME/vitbench, else ~/.cache/vitbench |
| VITBENCH_FEATURES_GB | size limit of cached features; 0 caches none | 50 |
| VITBENCH_DECODED_GB | size limit of cached decoded images; 0 caches none | 20 |
| VITBENCH_CHECKPOINT_S | seconds between two checkpoints of a training run | 60 |
| VITBENCH_COMPILE | compile networks: on, off, or auto (long work of transformers on a GPU); set by `--compile` | auto |
| VITBENCH_DEBUG | show tracebacks of faults in vitbench itself | off |
| TFDS_DATA_DIR | directory of prepared data sets | ~/tensorflow_datasets |
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Literal, get_args

from vitbench.core.errors import Problem, UsageError, nearest

CompileMode = Literal["auto", "on", "off"]
COMPILE = "VITBENCH_COMPILE"
FEATURES_GB, DECODED_GB, CHECKPOINT_S = "VITBENCH_FEATURES_GB", "VITBENCH_DECODED_GB", "VITBENCH_CHECKPOINT_S"
NUMBERS = (FEATURES_GB, DECODED_GB, CHECKPOINT_S)


def check_numbers() -> None:
    """Check the variables that take a number, before anything runs.

    Raises:
        UsageError: one is not a number, or negative.
    """
    for variable in NUMBERS:
        number_from(variable, 0)
    compile_mode()


def compile_mode() -> CompileMode:
    """Whether networks are compiled, for fine-tuning and for extraction.

    Raises:
        UsageError: the variable is none of the modes.
    """
    text = os.environ.get(COMPILE) or "auto"
    for mode in get_args(CompileMode):
        if text == mode:
            return mode  # type: ignore[no-any-return]
    what = f"${COMPILE} is {text!r}, not auto, on or off"
    raise UsageError(
        Problem(what, nearest=nearest(text, get_args(CompileMode)), next_step=f"export {COMPILE}=auto")
    )


def number_from(variable: str, default: float) -> float:
    """The number in an environment variable, or the default.

    Raises:
        UsageError: it is not a number, or negative.
    """
    text = os.environ.get(variable, "")
    try:
        number = float(text) if text else default
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        step = f"export {variable}={default:g}"
        raise UsageError(Problem(f"${variable} is {text!r}, not a number of 0 or more", next_step=step))
    return number


def cache_dir() -> Path:
    """The directory of cached work."""
    if custom := os.environ.get("VITBENCH_CACHE"):
        return Path(custom)
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "vitbench"
