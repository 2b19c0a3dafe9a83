"""vitbench: how well does a pre-trained vision backbone transfer, and at what compute?

Importing this is light. `run` and `load_records` are the two calls most scripts need; the `register_*` decorators add
backbones, tasks and protocols.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vitbench.core.record import Record
    from vitbench.core.registry import register_backbone, register_protocol, register_task

__version__ = "0.2.0"
__all__ = ["load_records", "register_backbone", "register_protocol", "register_task", "run"]


def run(suite: str | Path, out: str | Path | None = None, **overrides: Any) -> list[Record]:
    """Run a suite, or finish one that was begun, and return its records in the order of its jobs.

    Args:
        suite: a path or the name of a packaged suite.
        out: the run directory; `runs/NAME` if not given.
        **overrides: the fields of `vitbench.engine.run.Overrides`, as on the command line: `backbones=[...]`, `limit=64`.

    Raises:
        vitbench.core.errors.UsageError: the suite has mistakes; all of them are in the message.
        vitbench.core.errors.DataMissingError: data or weights are not there.
    """
    from vitbench.engine.run import Overrides, run_suite

    out_path = Path(out) if out is not None else None
    return list(run_suite(str(suite), out_path, Overrides(**overrides)).records)


def load_records(run: str | Path) -> list[Record]:
    """The records of a run directory."""
    from vitbench.store.record_file import load

    return load(Path(run))


def __getattr__(name: str) -> Any:
    if name in ("register_backbone", "register_task", "register_protocol"):
        from vitbench.core import registry

        return getattr(registry, name)
    raise AttributeError(f"module 'vitbench' has no attribute {name!r}")
