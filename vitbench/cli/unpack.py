"""`vitbench unpack`: the check of a submission, and its records as a run directory."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vitbench.cli.options import DATA_DIR, DEVICE, PLUGINS, load_plugins, output_folder
from vitbench.core.format import printable

if TYPE_CHECKING:
    from vitbench.engine.local_labels import LocalData
    from vitbench.store.submission import Checked


@click.command(no_args_is_help=True)
@click.argument("submission", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--check", "check_only", is_flag=True, help="Only verify; write nothing.")
@output_folder("--out", "Run directory to fill.")
@click.option(
    "--rerun", type=click.IntRange(1), metavar="N", help="Run N of its jobs again, and compare the results."
)
@click.option(
    "--rerun-seed", type=int, metavar="SEED", help="Choose the same jobs as before  [default: a new one]."
)
@DATA_DIR
@DEVICE
@PLUGINS
def unpack(
    submission: Path,
    check_only: bool,
    output: Path | None,
    rerun: int | None,
    rerun_seed: int | None,
    device: str,
    plugins: tuple[str, ...],
) -> int:
    """Verify a submission, and unpack it with --out: into a new run directory, or merged into one as `vitbench merge` does.

    Only valid records are written; the suite and the environment of a run that is there stay. Nothing in a submission is
    executed. Test labels are compared with the data that are on this machine.

    With --rerun, some jobs run again here, in a directory of their own; their weights are downloaded where that is needed.

    Exits with 1 if there are problems.
    """
    from vitbench.core.errors import UsageError
    from vitbench.engine.local_labels import LocalData
    from vitbench.store.submission import check
    from vitbench.store.submission import unpack as unpack_into
    from vitbench.store.submission_checks import NOT_CHECKED, summary
    from vitbench.store.submission_metrics import further_summary

    if not check_only and output is None:
        raise UsageError("choose --out DIR to unpack, or --check to only verify")
    load_plugins(plugins)
    found, data, said = check(submission, output), LocalData(), []
    said += [summary(found.records), further_summary(found.records, found.has_scores)]
    found = _with_local_labels(found, data, said)
    if rerun is not None:
        found = _with_reruns(found, data, said, (rerun, rerun_seed, device, plugins))
    _show(found)
    for text in (*said, NOT_CHECKED):
        click.echo(printable(text), err=True)
    if output is not None and not check_only:
        click.echo(f"{output}: {unpack_into(found, output)} records", err=True)
    return 1 if found.problems else 0


def _with_local_labels(found: Checked, data: LocalData, said: list[str]) -> Checked:
    """The submission without the records whose labels are not those of the data here."""
    from vitbench.engine.local_labels import compare_labels

    compared = compare_labels(found, data)
    if compared.agreeing:
        said.append(
            f"checked for {compared.agreeing} scores: labels and correctness are those of the test data here"
        )
    for reason, times in compared.unchecked.most_common():
        said.append(f"not checked for {times} scores: labels against the data: {reason}")
    return found.without(compared.problems)


def _with_reruns(
    found: Checked, data: LocalData, said: list[str], how: tuple[int, int | None, str, Sequence[str]]
) -> Checked:
    """The submission without the records that turn out otherwise when their jobs run again."""
    from vitbench.engine.rerun import MOST_OTHER_PREDICTIONS, MOST_SCORE_OFF, here
    from vitbench.engine.rerun import rerun as run_again

    count, given, device, plugins = how
    seed = secrets.randbelow(10**6) if given is None else given
    with here(device, plugins) as run:
        reruns = run_again(found, count, seed, run, data)
    said.append(
        f"run again: {len(reruns.compared)} of {len(found.records)} jobs, chosen with --rerun-seed {seed}, spread over "
        f"backbones and tasks; allowed are {MOST_OTHER_PREDICTIONS:.0%} other predictions and {100 * MOST_SCORE_OFF:g} points"
    )
    said += [f"run again: {job.title}: {difference}" for job, difference in reruns.compared.values()]
    said += [f"not run again ({times} jobs): {reason}" for reason, times in reruns.not_run.most_common()]
    return found.without(reruns.problems)


def _show(found: Checked) -> None:
    """Print the problems, what is not conformant, and how many records are left."""
    for text in found.problems:
        click.echo(printable(f"problem: {text}"))
    lacking = Counter((item, reason) for _, item, reason in found.lacking)
    for (item, reason), times in lacking.most_common():
        click.echo(printable(f"not conformant: {item}: {reason} ({times} records)"))
    good = sum(record.conformant for record in found.records)
    click.echo(f"{len(found.records)} records, {good} conformant, {_count(found.problems)}")


def _count(problems: Sequence[str]) -> str:
    if not problems:
        return "no problems found"
    return f"{len(problems)} problem{'s' * (len(problems) > 1)}"
