"""timm's model names without importing timm: asked for once in a process of its own, then kept per version."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from importlib.metadata import version

from vitbench.files import cache_dir, write_atomically

_ASK = (
    "import timm\n"
    "names = set(timm.list_models()) | set(timm.list_models(pretrained=True))\n"
    "print('\\n'.join(sorted(names)))"
)


@cache
def timm_names() -> tuple[str, ...]:
    """Names with and without weight tags; empty if timm cannot be asked, and then nothing is held against them."""
    kept = cache_dir() / f"timm-{version('timm')}-names.txt"
    if not kept.is_file():
        asked = subprocess.run(
            [sys.executable, "-c", _ASK], capture_output=True, text=True, check=False
        )
        if asked.returncode != 0:
            return ()
        write_atomically(kept, asked.stdout)
    return tuple(kept.read_text().split())
