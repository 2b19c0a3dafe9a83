"""`vitbench reproduce`: measure a published row, and say whether it holds."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vitbench.cli.completion import complete_row
from vitbench.cli.options import OUT, PLUGINS, RUN_OPTIONS, SEEDS, TASKS, dtype, fields_of, load_plugins
from vitbench.core.format import printable, quantity

if TYPE_CHECKING:
    from vitbench.engine.plan import RunOptions, RunPlan
    from vitbench.engine.run import Progress
    from vitbench.report.reproduction import Reproduction
    from vitbench.report.verdict import Verdict


@click.command(no_args_is_help=True)
@click.argument("row", shell_complete=complete_row)
@TASKS
@SEEDS
@OUT
@click.option(
    "--save", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    help="Write the suite to a file, to be changed and run by hand; run nothing.",
)  # fmt: skip
@dtype()
@PLUGINS
@RUN_OPTIONS
def reproduce(row: str, tasks: tuple[str, ...], out: Path | None, save: Path | None, **options: Any) -> int:
    """Measure a published row and compare: within the tolerance, or off by how much.

    ROW is an id of `vitbench list published`; with --reproducible it lists those that can be measured. A row that cannot says
    why. --dry-run prints the plan with its cost. --task narrows a row of many tasks.
    """
    from vitbench.report.reproduction import chosen_tasks, find_row, plan_row

    load_plugins(options["plugins"])
    plan = plan_row(find_row(row))
    plan = replace(plan, seeds=options["seeds"] or plan.seeds)
    if not plan.measurable:
        return _refuse(plan, as_json=options["as_json"])
    chosen = chosen_tasks(plan, tasks)
    text = suite_text(plan, chosen)
    if save is not None:
        _save(save, text)
        if not options["dry_run"]:
            return 0
    return _measure(plan, chosen, text, out or Path("runs") / "reproduce" / row, options)


def suite_text(plan: Reproduction, tasks: Sequence[str]) -> str:
    """The suite of a plan as the text of a file, with what it is for."""
    import yaml

    suite = yaml.safe_dump(plan.suite(tasks), sort_keys=False, allow_unicode=True, width=110)
    return f"# vitbench reproduce {plan.row.id}: {plan.row.source.citation}\n{suite}"


def _save(file: Path, text: str) -> None:
    from vitbench.core.errors import Problem, UsageError
    from vitbench.core.files import write_atomically

    if file.exists():
        what = f"--save {file}: the file is there already, and may have been changed by hand"
        raise UsageError(Problem(what, next_step="choose another name"))
    write_atomically(file, text)
    click.echo(f"wrote {file}; next: vitbench run {file}", err=True)


def _measure(plan: Reproduction, tasks: Sequence[str], text: str, out: Path, options: dict[str, Any]) -> int:
    from vitbench.cli.logs import logged
    from vitbench.cli.progress import TerminalProgress
    from vitbench.cli.run import interrupted_by_sigterm, refuse_for_dry_run_only
    from vitbench.engine.run import Overrides, RunOptions, follow, is_follower, plan_suite

    with interrupted_by_sigterm(), tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "suite.yaml"
        file.write_text(text, encoding="utf-8")
        run_plan = plan_suite(str(file), out, fields_of(Overrides, options))
        run_options = fields_of(RunOptions, options)
        if is_follower():
            follow(run_plan, run_options)
            return 0
        if options["dry_run"]:
            return _show_plan(
                plan, tasks, run_plan, run_options, as_json=options["as_json"], verbose=options["verbose"]
            )
        refuse_for_dry_run_only(options)
        click.echo(printable(_described(plan, tasks)), err=True)
        with logged(options["logs"], run_plan, TerminalProgress()) as progress:
            return _run(plan, tasks, run_plan, run_options, progress, as_json=options["as_json"])


def _run(
    plan: Reproduction,
    tasks: Sequence[str],
    run_plan: RunPlan,
    run_options: RunOptions,
    progress: Progress,
    *,
    as_json: bool,
) -> int:
    from vitbench.cli.run import measured
    from vitbench.cli.run_results import show_failures, show_results, write_page
    from vitbench.report.verdict import explanations, verdicts

    result = measured(run_plan, run_options, progress)
    if result is None:
        return 130
    if as_json:
        write_page(result)
    else:
        show_results(result, as_json=False)
    found = verdicts(plan, tasks, result.records)
    could = explanations(plan, result.records)
    if as_json:
        shown = {
            **_as_json(plan, tasks),
            "verdicts": [asdict(verdict) for verdict in found],
            "explanations": could,
        }
        click.echo(json.dumps(shown, indent=1, ensure_ascii=False))
    else:
        click.echo(printable(_judged(plan, found, could)))
    return show_failures(result)


def _show_plan(
    plan: Reproduction,
    tasks: Sequence[str],
    run_plan: RunPlan,
    run_options: RunOptions,
    *,
    as_json: bool,
    verbose: bool,
) -> int:
    """Print the plan with what is missing on this machine, the jobs and their cost."""
    from vitbench.cli.dry_run import plan_as_json, print_plan
    from vitbench.core.errors import DataMissingError
    from vitbench.engine.plan import with_data

    missing: list[str] = []
    try:
        with_data(run_plan.pending(run_options), skip_missing=False, others=False)
    except DataMissingError as error:
        missing = list(map(str, error.problems))
    if as_json:
        shown = {**_as_json(plan, tasks), "missing": missing, **plan_as_json(run_plan, run_options)}
        click.echo(json.dumps(shown, indent=1, ensure_ascii=False))
        return 0
    click.echo(printable("\n".join([_described(plan, tasks), *missing])))
    return print_plan(run_plan, run_options, as_json=False, verbose=verbose)


def _refuse(plan: Reproduction, *, as_json: bool) -> int:
    """Say what stands in the way of a row, and return 3 if that is its weights or data, else 2."""
    if as_json:
        click.echo(json.dumps(_as_json(plan, ()), indent=1, ensure_ascii=False))
    else:
        click.echo(printable(_described(plan, ())))
    click.echo(f"{plan.row.id} cannot be measured; see vitbench list published --reproducible", err=True)
    return 3 if {obstacle.kind for obstacle in plan.obstacles} <= {"weights", "data"} else 2


def _described(plan: Reproduction, tasks: Sequence[str]) -> str:
    """A plan in lines: what is measured, how, and what stands in the way of the rest."""
    from vitbench.report.reproduction import training_images

    row, able = plan.row, plan.measurable
    lines = [f"{row.id}: {row.model}, {row.pretrain_data}, {row.source.citation}"]
    if able and plan.method is not None:
        sizes = ", ".join(f"{size} px" for size in sorted({value.size_px or 0 for value in able}))
        lines += [
            f"  measured    {len(able)} of {len(plan.values)} values, by {len(tasks)} task{'s' * (len(tasks) > 1)}",
            f"  backbone    timm:{plan.weights}, {sizes}{plan.pixels_text}",
            f"  protocol    {plan.method.text}{plan.seeds_text}",
        ]
        if images := training_images(plan, tasks):
            lines.append(f"  training    {quantity(images)} images, forward and backward")
    for obstacle in plan.obstacles:
        names = [value.dataset for value in plan.values if obstacle in value.obstacles]
        which = "" if len(names) == len(plan.values) else f" ({', '.join(names)})"
        lines.append(f"  in the way  {obstacle.kind}: {obstacle.what}{which}")
    lines += [f"  departure   {departure}" for departure in plan.departures if able]
    return "\n".join(lines)


def _judged(plan: Reproduction, found: Sequence[Verdict], could: Sequence[str]) -> str:
    """The verdicts as a table, what the tolerance is, and what could explain a difference."""
    width = max((len(verdict.dataset) for verdict in found), default=0)
    lines = [f"{plan.row.id}, {plan.row.source.citation}:"]
    lines += [f"  {verdict.dataset:{width}}  {_in_words(verdict)}" for verdict in found]
    from vitbench.report.verdict import basis

    bases = dict.fromkeys(basis(verdict.match) for verdict in found if verdict.match is not None)
    lines += [f"  tolerance: {basis}" for basis in bases]
    if any(verdict.outcome in ("off", "no tolerance") for verdict in found):
        lines += [f"  could explain a difference: {text}" for text in could or ["no departure is known"]]
    return "\n".join(lines)


def _in_words(verdict: Verdict) -> str:
    printed = _percent(verdict.printed, verdict.printed_std)
    if verdict.measured is None:
        return f"{printed} printed, not measured: {'; '.join(verdict.reasons)}"
    ours = _percent(verdict.measured.value, verdict.std)
    text = f"{printed} printed, {ours} measured"
    if verdict.match is None:
        return f"{text}, not comparable: {'; '.join(verdict.reasons)}"
    points = f"{100 * verdict.match.difference:+.2f}"
    if verdict.match.tolerance is None:
        return f"{text}: {points}, no tolerance is known"
    allowed = f"{100 * verdict.match.tolerance:.2f}"
    if verdict.outcome == "off":
        return f"{text}: off by {points}, the tolerance is {allowed}"
    much = ", which is too wide to say much" if verdict.outcome == "wide" else ""
    return f"{text}: {points}, within the tolerance of {allowed}{much}"


def _percent(mean: float, std: float | None) -> str:
    return f"{100 * mean:.2f}" + ("" if std is None else f" ± {100 * std:.2f}")


def _as_json(plan: Reproduction, tasks: Sequence[str]) -> dict[str, Any]:
    """A plan as plain values; `suite` is null if nothing can be measured."""
    from vitbench.report.reproduction import training_images

    return {
        "row": plan.row.model_dump(mode="json"),
        "reproducible": bool(plan.measurable),
        "values": [asdict(value) for value in plan.values],
        "departures": list(plan.departures),
        "training_images": training_images(plan, tasks),
        "suite": plan.suite(tasks) if plan.measurable else None,
    }
