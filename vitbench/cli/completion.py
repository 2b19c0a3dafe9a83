"""Shell completion."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem


def complete_suite(_context: click.Context, _parameter: click.Parameter, start: str) -> list[CompletionItem]:
    """Complete the names of packaged suites, and files."""
    from vitbench.suite.read import packaged_suites

    names = [CompletionItem(name) for name in packaged_suites() if name.startswith(start)]
    return [*names, CompletionItem(start, type="file")]
