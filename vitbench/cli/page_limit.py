"""How many records a page can be made of."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

MOST_RECORDS = 40_000  # a page takes 24 KiB of memory for each beyond 310 MiB: 1.2 GiB for so many


def refuse_too_many(files: Mapping[Path, Sequence[Path]]) -> None:
    """Refuse more records, given the files of each run, than a page can be made of, before any is loaded.

    Raises:
        UsageError: there are too many; the message has a command that narrows them.
    """
    from vitbench.core.errors import Problem, UsageError
    from vitbench.store.record_heads import head_of

    count = sum(map(len, files.values()))
    if count <= MOST_RECORDS:
        return
    head = head_of(next(file for own in files.values() for file in own))
    part = ["--backbone", head.backbone, "--task", head.task]
    step = f"{shlex.join(['vitbench', 'report', *map(str, files), *part])} -o FILE.html"
    what = f"a page of {count:,} records would take more than 1 GiB of memory; it can have {MOST_RECORDS:,}"
    raise UsageError(
        Problem(f"{what}: choose backbones or tasks, both options are repeatable", next_step=step)
    )
