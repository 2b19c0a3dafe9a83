"""vitbench: how well does a pre-trained vision backbone transfer, and at what compute?

Importing vitbench is light: torch is imported when something runs. `run` and `load_records` are all that most scripts need; the
`register_*` decorators add backbones, tasks, protocols and logs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vitbench.backbones.check import check_backbone
    from vitbench.cli.evaluate import evaluate
    from vitbench.core.errors import DataMissingError, UsageError
    from vitbench.core.record import Record
    from vitbench.core.registry import register_backbone, register_log, register_protocol, register_task
    from vitbench.engine.components import load_all as load_plugins
    from vitbench.engine.run import Overrides

__version__ = "0.2.0"
__all__ = [
    "DataMissingError",
    "Overrides",
    "UsageError",
    "check_backbone",
    "evaluate",
    "load_plugins",
    "load_records",
    "register_backbone",
    "register_log",
    "register_protocol",
    "register_task",
    "run",
]


def run(
    suite: str | Path,
    out: str | Path | None = None,
    *,
    log: Sequence[str | Mapping[str, Any]] = (),
    **options: Any,
) -> list[Record]:
    """Run a suite, or finish one that was interrupted, and return its records in the order of its jobs.

    Args:
        suite: a path, or the name of a suite that ships with vitbench.
        out: the run directory; default `runs/NAME`.
        log: where results go beside, as `--log` takes it: `["tensorboard", {"name": "wandb", "project": "vit"}]`.
        **options: what the command line takes: the fields of `vitbench.Overrides` (`backbones=[...]`, `limit=64`) and of
            `vitbench.engine.run.RunOptions` (`device="cuda"`, `workers=2`).

    Raises:
        UsageError: an option is unknown, or the suite has mistakes; all of them are in the message.
        DataMissingError: data or weights are missing.
    """
    from vitbench.cli.logs import logged
    from vitbench.engine.run import Progress, options_from, plan_suite, run_planned

    overrides, run_options = options_from(options)
    plan = plan_suite(str(suite), Path(out) if out is not None else None, overrides)
    with logged(log, plan, Progress()) as progress:
        return list(run_planned(plan, run_options, progress).records)


def load_records(run: str | Path) -> list[Record]:
    """The records of a run directory."""
    from vitbench.store.record_file import load

    return load(Path(run))


def __getattr__(name: str) -> Any:
    """Import an exported name when it is first used."""
    if name.startswith("register_") and name in __all__:
        from vitbench.core import registry

        return getattr(registry, name)
    if name in ("DataMissingError", "UsageError"):
        from vitbench.core import errors

        return getattr(errors, name)
    if name == "Overrides":
        from vitbench.engine.run import Overrides

        return Overrides
    if name == "load_plugins":
        from vitbench.engine.components import load_all

        return load_all
    if name == "evaluate":
        from vitbench.cli.evaluate import evaluate

        return evaluate
    if name == "check_backbone":
        from vitbench.backbones.check import check_backbone

        return check_backbone
    raise AttributeError(f"module 'vitbench' has no attribute {name!r}")
