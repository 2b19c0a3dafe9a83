"""`vitbench list`: backbones, tasks, protocols and suites with their options. No torch here."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import click

from vitbench.cli.options import JSON, PLUGINS, warn_of_broken

if TYPE_CHECKING:
    from vitbench.core.plugins import LoadedPlugin
    from vitbench.published import PublishedRow

Row = dict[str, Any]


def _components(kind: str) -> list[Row]:
    import vitbench.report.logs  # noqa: F401  registers those that ship with vitbench
    from vitbench.core.registry import LOGS
    from vitbench.suite.suite_file import KINDS

    rows = []
    for entry in {**KINDS, "logs": LOGS}[kind].entries():
        spec = f"{entry.name}:{entry.argument.upper()}" if entry.argument else entry.name
        options = [_option(name, field) for name, field in entry.options.model_fields.items()]
        rows.append({
            "name": spec, "summary": entry.summary, "options": options, **entry.labels,
            "version": entry.version, "origin": entry.origin,
        })  # fmt: skip
    return rows


def _protocols(_pattern: str) -> list[Row]:
    from vitbench.engine.components import reference_of

    return [
        {**row, **reference_of(row["name"], str(row.get("source", "")))} for row in _components("protocols")
    ]


def _option(name: str, field: Any) -> str:
    return f"{name}" if field.is_required() else f"{name}={json.dumps(field.default, default=str)}"


def _backbones(pattern: str) -> list[Row]:
    from vitbench.backbones.catalog import catalog, entry_of, notes_on, traps

    if not pattern.startswith("timm:"):
        named = [
            {
                "name": entry.alias,
                "options": [],
                **entry.model_dump(mode="json"),
                "summary": f"{entry.spec}: {entry.summary}",
                "notes": notes_on(entry.spec),
            }
            for entry in catalog()
        ]
        return [*_components("backbones"), *named]
    from vitbench.backbones.timm_names import timm_names

    misleading = traps()
    specs = sorted({*(f"timm:{name}" for name in timm_names()), *misleading})
    known = {spec: entry_of(spec) for spec in specs}
    return [
        {
            "name": spec,
            "summary": found.summary if (found := known[spec]) else "",
            "notes": notes_on(spec),
            "options": [],
        }
        for spec in specs
    ]


def _suites(_pattern: str) -> list[Row]:
    from vitbench.suite.read import packaged_suites
    from vitbench.suite.yaml_lines import read_yaml

    return [
        {
            "name": name,
            "summary": str(read_yaml(path).data.get("description", "")),
            "options": [],
            "path": str(path),
        }
        for name, path in packaged_suites().items()
    ]


def _published(_pattern: str) -> list[Row]:
    from vitbench.published import published

    return _published_rows(published())


def _reproducible() -> list[Row]:
    """The published rows that can be measured here, with how many of their values."""
    from vitbench.published import published
    from vitbench.report.reproduction import plan_row

    plans = [plan for row in published() if (plan := plan_row(row)).measurable]
    click.echo(f"{len(plans)} of {len(published())} published rows can be measured", err=True)
    rows = _published_rows(plan.row for plan in plans)
    for row, plan in zip(rows, plans, strict=True):
        able = [value.dataset for value in plan.measurable]
        row["summary"] += f" · {len(able)} of {len(plan.values)} values"
        row["measurable"] = able
    return rows


def _published_rows(rows: Iterable[PublishedRow]) -> list[Row]:
    return [
        {
            "name": row.id,
            "summary": f"{row.model} · {row.pretrain_data} · {row.protocol} · {row.source.citation}"
            + (" · from a single secondary source" if row.is_weak else ""),
            "options": [],
            **row.model_dump(mode="json", exclude={"id"}),
        }
        for row in rows
    ]


_KINDS: dict[str, Callable[[str], list[Row]]] = {
    "backbones": _backbones,
    "tasks": lambda _pattern: _components("tasks"),
    "protocols": _protocols,
    "logs": lambda _pattern: _components("logs"),
    "suites": _suites,
    "published": _published,
}


@click.command("list", no_args_is_help=True)
@click.argument("kind", type=click.Choice([*_KINDS, "plugins", "schema"]))
@click.argument("pattern", default="")
@click.option("--reproducible", is_flag=True, help="Only published rows that can be measured here.")
@PLUGINS
@JSON
def list_(kind: str, pattern: str, reproducible: bool, plugins: tuple[str, ...], as_json: bool) -> None:
    """List backbones, tasks, protocols, logs, suites, published results or plugins.

    PATTERN is a part of a name, or a glob.

    `vitbench list backbones 'timm:*vit*'` searches timm's models; `vitbench list schema` prints the JSON schema of suite files,
    for editors.
    """
    from vitbench.core.errors import Problem, UsageError
    from vitbench.engine.components import load_all

    if reproducible and kind != "published":
        raise UsageError(
            Problem(
                f"--reproducible is for published rows, not {kind}",
                next_step="vitbench list published --reproducible",
            )
        )
    loaded = load_all(plugins)
    if kind != "plugins":  # which lists the broken ones itself
        warn_of_broken(loaded)
    if kind == "schema":
        from vitbench.suite.json_schema import suite_schema

        click.echo(json.dumps(suite_schema(), indent=2))
        return
    make = {**_KINDS, "plugins": lambda _pattern: _plugins(loaded)}[kind]
    rows = _reproducible() if reproducible else make(pattern)
    rows = [row for row in rows if _matches(row["name"], pattern)]
    click.echo(json.dumps(rows, indent=1, ensure_ascii=False) if as_json else _table(rows))


def _plugins(loaded: list[LoadedPlugin]) -> list[Row]:
    return [
        {"name": plugin.name, "origin": plugin.origin, "summary": plugin.trouble or "loaded", "options": []}
        for plugin in loaded
    ]


def _matches(name: str, pattern: str) -> bool:
    return not pattern or fnmatch.fnmatch(name, pattern) or pattern.lower() in name.lower()


def _of_reference(row: Row) -> list[str]:
    """What a protocol follows and how it departs, and the same of its recipes."""
    lines = [f"reference: {row['reference']}"] if row.get("reference") else []
    lines += [f"departs: {text}" for text in row.get("departs", ())]
    for recipe in row.get("recipes", ()):
        lines += [f"recipe {recipe['name']}: {recipe['title']}", f"    reference: {recipe['reference']}"]
        lines += [f"    departs: {text}" for text in recipe["departs"]]
    return lines


def _table(rows: list[Row]) -> str:
    if not rows:
        return "no matches"
    width = min(max(len(row["name"]) for row in rows), 60)
    lines = []
    for row in rows:
        lines.append(f"{row['name']:{width}}  {row['summary']}".rstrip())
        lines += [f"{'':{width}}    note: {note}" for note in row.get("notes", ())]
        lines += [f"{'':{width}}    {line}" for line in _of_reference(row)]
        if row["options"]:
            lines.append(f"{'':{width}}    options: {', '.join(row['options'])}")
    return "\n".join(lines)
