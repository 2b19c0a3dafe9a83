"""`vitbench retry`: the failed and missing jobs of a run, without naming its suite again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from vitbench.cli.options import RUN, RUN_OPTIONS, SUITE_OVERRIDES, fields_of


@click.command(no_args_is_help=True)
@RUN
@SUITE_OVERRIDES
@RUN_OPTIONS
def retry(run: Path, **options: Any) -> int:
    """Run the failed and missing jobs of a run.

    Runs the jobs requested last (RUN/suite.lock.yaml). Options are those of `vitbench run`: --backbone, --task, --protocol,
    --budget and --seeds select among the run's jobs and cannot add new ones; --retry-failed is always on.
    """
    from vitbench.cli.retry_plan import retry_plan
    from vitbench.cli.run import execute, interrupted_by_sigterm
    from vitbench.engine.run import Overrides, RunOptions

    with interrupted_by_sigterm():
        plan = retry_plan(run, fields_of(Overrides, options))
        return execute(plan, fields_of(RunOptions, {**options, "retry_failed": True}), options)
