"""The blocks of README, CONTRIBUTING and docs/: commands with the rule that each is tested by, suites, Python."""

import re
import shlex
import tomllib
from dataclasses import dataclass
from pathlib import Path

import click
import pytest

from tests.making.paths import ROOT
from vitbench.cli import cli

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.DOTALL | re.MULTILINE)
SNIPPET = re.compile(r'^--8<-- "(.+)"$', re.MULTILINE)

# The first rule that matches decides. What matches none is run.
PARSED = (
    r"^pip install ",  # .ci/run installs
    r"^make ",  # the target exists; .ci/run calls it
    r"^torchrun ",
    r"huggingface:OWNER/NAME",  # tests/data/test_hub.py runs them with a hub
    r"--executor ray",
    r"&&.*pytest",
)
# Networks whose weights must be downloaded, or that take GPUs: planned, with --dry-run.
PLANNED = (
    r"\.augreg|\.goog_",
    r"^vitbench reproduce ",
    # Where libraries are others than the committed records', these measure anew, and two backbones have one name.
    r"^vitbench (retry |run quickstart --budget 5-shot --task digits$)",
    r"^vitbench run my-checkpoint\.yaml$",  # minutes on a CPU
    r"^vitbench run quickstart --backbone .*checkpoint=my\.safetensors",
    r"^vitbench run quickstart( --backbone effnet-lite0)?$",  # minutes on a busy machine
    r"^vitbench run (peft-vtab|imagenet-own-head|imagenet-robustness|linear-probes)\b",
    r"^vitbench run (vtab|vtab-frozen|bit-vtab|paper|imagenet|cifar|pets-flowers|fewshot|imagenet-fewshot|scaling)\b",
)
# Commands that say by their exit code that something is missing, or wrong with the data, as the tests' data has it.
EXIT_CODES = {
    "vitbench folder DIR": 2,  # no backbone is named
    "vitbench data verify vtab-1k": 1,  # a re-encoded dump
    "vitbench data verify vtab/cifar100": 1,  # miniatures have other sizes
    "vitbench data verify vtab": 1,
}


@dataclass(frozen=True)
class Block:
    """A fenced block: the page it is on, its language and its text."""

    page: str
    language: str
    text: str

    @property
    def file(self) -> str:
        """The name in the first line's comment, `# my_net.py`, under which a reader saves it."""
        found = re.match(r"# ([\w-]+\.(?:py|yaml))\n", self.text)
        return found.group(1) if found else ""


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, with snippets from files in place."""
    text = SNIPPET.sub(lambda found: (ROOT / found.group(1)).read_text(), page.read_text())
    return [Block(page.name, language, body) for _, language, body in BLOCK.findall(text)]


BLOCKS = [block for page in PAGES for block in blocks(page)]


def of_language(language: str) -> list[Block]:
    """All blocks of a language, without repetitions."""
    return list({block.text: block for block in BLOCKS if block.language == language}.values())


def commands() -> list[str]:
    """Every command of every sh block, once, without its comment."""
    lines = [line for block in of_language("sh") for line in block.text.splitlines()]
    found = [re.split(r"\s+# ", line)[0].strip() for line in lines]
    return list(dict.fromkeys(line for line in found if line))


def rule(command: str) -> str:
    """How a command is tested: `parsed`, `planned` or `run`."""
    for name, patterns in (("parsed", PARSED), ("planned", PLANNED)):
        if any(re.search(pattern, command) for pattern in patterns):
            return name
    return "run"


def by_rule(name: str) -> list[str]:
    """The commands that are tested by this rule."""
    return [command for command in commands() if rule(command) == name]


def arguments(command: str) -> list[str]:
    """What follows `vitbench`, up to a redirection."""
    words = shlex.split(command)
    words = words[words.index("vitbench") + 1 :]
    return words[: words.index(">")] if ">" in words else words


def parse(command: str) -> None:
    """Fail unless the tool, its verb or target, and every option exist."""
    for part in command.split(" && "):
        first, *rest = shlex.split(part)
        if first == "pip":
            _parse_pip(rest)
        elif first == "make":
            targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
            assert set(rest) <= set(targets), part
        elif first != "pytest":
            assert first in ("vitbench", "torchrun"), part
            _parse_vitbench(arguments(part))


def _parse_pip(words: list[str]) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert words[0] == "install", words
    named = re.fullmatch(r"\.(?:\[(\w+)\])?", words[-1])
    assert named, words
    assert named.group(1) in (None, *extras), words


def _parse_vitbench(words: list[str]) -> None:
    command: click.Command = cli
    context = click.Context(command)
    while isinstance(command, click.Group):
        command, words = command.commands[words[0]], words[1:]
        context = click.Context(command, parent=context)
    try:
        command.make_parser(context).parse_args(list(words))
    except click.UsageError as error:
        pytest.fail(f"{words}: {error.message}")
