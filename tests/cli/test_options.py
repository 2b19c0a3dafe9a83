"""Options are declared once: commands that plan and run jobs take the same ones."""

import dataclasses

import click
import pytest

from vitbench.cli import cli
from vitbench.engine.run import Overrides, RunOptions

SUITE = {field.name for field in dataclasses.fields(Overrides)}
HOW = {field.name for field in dataclasses.fields(RunOptions)}


def parameters(verb):
    return {parameter.name: parameter for parameter in cli.commands[verb].params}


@pytest.mark.parametrize(
    ("verb", "expected"), [("run", SUITE | HOW), ("retry", SUITE | HOW), ("prune", SUITE)]
)
def test_every_field_is_an_option(verb, expected):
    assert expected <= set(parameters(verb))


def test_retry_takes_the_options_of_run():
    own = {"suite", "out"}
    assert set(parameters("retry")) == set(parameters("run")) - own | {"run"}


def test_an_option_of_several_verbs_is_the_same_in_all_of_them():
    """Apart from `-o`, `--out`, `--dtype` and the two kinds of `--set`, whose meaning depends on the verb."""
    seen = {}
    commands = [*cli.commands.values(), *cli.commands["data"].commands.values()]
    for parameter in (p for command in commands for p in command.params if isinstance(p, click.Option)):
        seen.setdefault(parameter.opts[-1], set()).add(parameter.help)
    several = {name for name, texts in seen.items() if len(texts) > 1}
    assert several <= {"-o", "--out", "--set", "--format"}


def test_every_option_has_a_help_text():
    commands = [*cli.commands.values(), *cli.commands["data"].commands.values()]
    for command in commands:
        for parameter in command.params:
            assert not isinstance(parameter, click.Option) or parameter.help, (command.name, parameter.name)
