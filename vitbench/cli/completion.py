"""Shell completion."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem


def complete_suite(_context: click.Context, _parameter: click.Parameter, start: str) -> list[CompletionItem]:
    """Complete the names of packaged suites, and files."""
    from vitbench.suite.read import packaged_suites

    names = [CompletionItem(name) for name in packaged_suites() if name.startswith(start)]
    return [*names, CompletionItem(start, type="file")]


def complete_row(_context: click.Context, _parameter: click.Parameter, start: str) -> list[CompletionItem]:
    """Complete the ids of published rows."""
    from vitbench.published import published

    return [CompletionItem(row.id) for row in published() if row.id.startswith(start)]
