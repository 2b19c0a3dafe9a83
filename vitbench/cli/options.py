"""Options that several verbs take, each declared once, and what they are turned into."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import click

from vitbench.core.format import printable

if TYPE_CHECKING:
    from vitbench.core.plugins import LoadedPlugin

Command = TypeVar("Command", bound=Callable[..., Any])
Fields = TypeVar("Fields")


class Decorator(Protocol):
    """What adds an argument or options to a command."""

    def __call__(self, command: Command, /) -> Command:
        """The same command with them."""


def _group(*options: Decorator) -> Decorator:
    """One decorator for several, listed in this order by --help."""

    def add(command: Command, /) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def _seeds(_context: click.Context, _option: click.Parameter, text: str | None) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",")) if text else ()
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a list of whole numbers such as 0,1,2") from None


def _shard(_context: click.Context, _option: click.Parameter, text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    from vitbench.engine.schedule import read_shard

    return read_shard(text)


def _use_data_dir(_context: click.Context, _option: click.Parameter, folder: Path | None) -> None:
    if folder is not None:
        os.environ["TFDS_DATA_DIR"] = str(folder.expanduser().absolute())


def _use_compile(_context: click.Context, _option: click.Parameter, mode: str | None) -> None:
    if mode is not None:
        os.environ["VITBENCH_COMPILE"] = mode


_FOLDER = click.Path(path_type=Path, file_okay=False)
_FILE = click.Path(path_type=Path, dir_okay=False)

RUN = click.argument("run", type=_FOLDER)
RUNS = click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
OUT = click.option("--out", type=_FOLDER, metavar="DIR", help="Run directory  [default: runs/NAME].")
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
DEVICE = click.option(
    "--device", metavar="DEVICE", default="auto", show_default=True, help="cpu, cuda, cuda:N or auto."
)
# Applies to this process and its workers, so commands need not pass it on.
DATA_DIR = click.option(
    "--data-dir", type=_FOLDER, metavar="DIR", envvar="TFDS_DATA_DIR", callback=_use_data_dir, expose_value=False,
    help="Directory of prepared data sets  [default: $TFDS_DATA_DIR, else ~/tensorflow_datasets].",
)  # fmt: skip
# So is this one, by the same means.
COMPILE = click.option(
    "--compile", type=click.Choice(["auto", "on", "off"]), callback=_use_compile, expose_value=False,
    help="Compile networks: auto does it for long work of transformers on a GPU  [default: $VITBENCH_COMPILE, else auto].",
)  # fmt: skip
PLUGINS = click.option(
    "--plugin", "plugins", multiple=True, metavar="FILE|MODULE",
    help="Python file or module to load first (registers backbones, tasks, protocols).",
)  # fmt: skip
BACKBONE_SETTINGS = click.option(
    "--set", "settings", multiple=True, metavar="OPTION=VALUE", help="Set an option of the backbone."
)
SUITE_SETTINGS = click.option(
    "--set", "settings", multiple=True, metavar="PATH=VALUE",
    help="Change one value of the suite: tasks.images.path=DIR.",
)  # fmt: skip


def dtype(default: str | None = None) -> Decorator:
    """`--dtype`; without a default the suite decides."""
    return click.option(
        "--dtype", type=click.Choice(["float32", "bfloat16"]), default=default, show_default=bool(default),
        help="Precision of the forward pass.",
    )  # fmt: skip


# What is run: the fields of Overrides.
TASKS = click.option("--task", "tasks", multiple=True, metavar="T", help="Only this task (repeatable).")
SEEDS = click.option("--seeds", callback=_seeds, metavar="0,1,2", help="Seeds to run instead of the suite's.")
BACKBONES = click.option(
    "--backbone", "backbones", multiple=True, metavar="B",
    help="Only this backbone: its label, or where jobs are planned any NAME,option=value,... (repeatable).",
)  # fmt: skip
_PART = (BACKBONES, TASKS)
PART_OF_RESULTS = _group(*_PART)
SUITE_OVERRIDES = _group(
    *_PART,
    click.option("--protocol", "protocols", multiple=True, metavar="P", help="Protocol to run (repeatable)."),
    click.option("--budget", "budgets", multiple=True, metavar="B", help="Budget to run: full, 1k or N-shot (repeatable)."),
    SEEDS,
    click.option(
        "--limit", type=click.IntRange(1, 2**31 - 1), metavar="N",
        help="Use at most N examples of each split; the leaderboard is marked as limited.",
    ),
    dtype(), SUITE_SETTINGS, PLUGINS,
)  # fmt: skip


# How jobs are run: the fields of RunOptions, and what the terminal shows of it.
RUN_OPTIONS = _group(
    DEVICE,
    click.option(
        "--executor", type=click.Choice(["local", "ray"]), default="local", show_default=True,
        help="Where jobs run: on this machine, or on a Ray cluster (needs vitbench[ray]).",
    ),
    click.option(
        "--address", metavar="HOST:PORT",
        help="Address of the Ray cluster  [default: $RAY_ADDRESS, else a local cluster is started].",
    ),
    click.option(
        "--workers", type=click.IntRange(1, 1024), metavar="N", help="Worker processes  [default: one per GPU, else one]."
    ),
    click.option(
        "--shard", callback=_shard, metavar="I/N",
        help="Run shard I of N (1 to N), for job arrays on a shared file system.",
    ),
    DATA_DIR,
    COMPILE,
    click.option("--skip-missing", is_flag=True, help="Skip jobs whose data is missing; the leaderboard shows the gaps."),
    click.option("--dry-run", is_flag=True, help="Print the jobs and estimate FLOPs, hours and disk; run nothing."),
    click.option("--verbose", is_flag=True, help="With --dry-run: list every job."),
    click.option(
        "--on", metavar="CARD",
        help="With --dry-run: predict for a GPU that is not here: h100, h200, a100, rtx4090, l4 and others.",
    ),
    click.option("--measure", is_flag=True, help="With --dry-run: measure the speed of the networks here, for seconds."),
    click.option(
        "--log", "logs", multiple=True, metavar="LOG",
        help="Send results to tensorboard, wandb or mlflow too: NAME,option=value,... (repeatable; needs vitbench[log]).",
    ),
    click.option(
        "--keep-scores", is_flag=True,
        help="Keep the class scores of all test images (float16); finished jobs without them run again.",
    ),
    click.option("--force", is_flag=True, help="Run finished jobs again."),
    click.option("--retry-failed", is_flag=True, help="Run failed jobs again."),
    click.option("--fail-fast", is_flag=True, help="Stop at the first job that fails."),
    JSON,
)  # fmt: skip


def output_file(text: str, default: str | None = None) -> Decorator:
    """`-o` of a verb that writes one file."""
    return click.option(
        "-o", "output", type=_FILE, metavar="FILE", default=default, show_default=bool(default), help=text
    )


def output_folder(flag: str, text: str, **kwargs: Any) -> Decorator:
    """`-o` or `--out` of a verb that fills a folder."""
    return click.option(flag, "output", type=_FOLDER, metavar="DIR", help=text, **kwargs)


def fields_of(kind: type[Fields], options: Mapping[str, Any]) -> Fields:
    """A dataclass made from those options of a command that are named as its fields."""
    names = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in options.items() if name in names})


def load_plugins(plugins: Iterable[str]) -> list[LoadedPlugin]:
    """Load all plugins, and warn of those that are broken."""
    from vitbench.engine.components import load_all

    loaded = load_all(plugins)
    warn_of_broken(loaded)
    return loaded


def warn_of_broken(plugins: Iterable[LoadedPlugin]) -> None:
    """Print a warning for every plugin that could not be loaded."""
    for plugin in plugins:
        if plugin.trouble:
            click.echo(printable(f"warning: {plugin.warning}"), err=True)


def named_backbone(text: str, settings: Iterable[str]) -> tuple[str, dict[str, object]]:
    """The name and the options of a backbone given as `NAME,option=value,...` and `--set option=value`."""
    from vitbench.core.errors import UsageError
    from vitbench.suite.command_line import entry_of
    from vitbench.suite.yaml_lines import parse_value

    entry: dict[str, object] = entry_of(text, "BACKBONE")
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise UsageError(f"--set {setting}: expected option=value")
        entry[name] = parse_value(value)
    entry.pop("label", None)  # what `run` would call its row
    return str(entry.pop("name")), entry
