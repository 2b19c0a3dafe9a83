"""`vitbench data`: show, prepare and verify data sets. Only preparing needs TensorFlow."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vitbench.cli.options import DATA_DIR, JSON

if TYPE_CHECKING:
    from vitbench.data.tfds.dataset import DataSet
    from vitbench.data.tfds.verify import Item

HUB = "huggingface:"
NAMES = click.argument("names", nargs=-1, metavar="[DATASET|TASK|SUITE]...")


@click.group()
def data() -> None:
    """Show, prepare and verify data sets."""


def _chosen(names: tuple[str, ...]) -> list[DataSet]:
    """Return the data sets named directly, by a task or by a suite; all if there are no names."""
    from vitbench.core.registry import TASKS
    from vitbench.data.tfds.dataset import DATA_SETS
    from vitbench.data.tfds.status import named
    from vitbench.engine.components import load_all

    load_all()
    tasks = {entry.name: entry.labels["dataset"] for entry in TASKS.entries() if entry.labels.get("dataset")}
    wanted: list[str] = []
    for name in names:
        in_suite = None if name in DATA_SETS or name in tasks else _of_suite(name, set(tasks))
        wanted += [name] if in_suite is None else in_suite
    return named(wanted, DATA_SETS, tasks) if wanted or not names else []


def _of_suite(name: str, tasks: set[str]) -> list[str] | None:
    """Return the tasks of a suite that need a data set, or None if there is no such suite."""
    from vitbench.data.tfds.dataset import DATA_SETS
    from vitbench.suite import find_suite, read_suite
    from vitbench.suite.read import packaged_suites

    if name not in packaged_suites() and not Path(name).is_file():
        return None
    listed = read_suite(find_suite(name)).data.get("tasks") or []
    entries = [{"name": entry} if isinstance(entry, str) else entry for entry in listed]
    found = []
    for entry in entries:
        task = str(entry.get("source") or entry.get("name"))
        chosen = entry.get("test_sets") or ()
        wanted = {f"{task}/{each}" for each in ([chosen] if isinstance(chosen, str) else chosen)}
        found += [task] if task in tasks else []
        found += (
            [] if isinstance(chosen, dict) else [d.name for d in DATA_SETS.values() if d.test_set in wanted]
        )
    return found


@data.command()
@NAMES
@DATA_DIR
@JSON
def status(names: tuple[str, ...], as_json: bool) -> int:
    """Show the state of each data set.

    One of: ready, can be downloaded, needs manual files, broken.

    Exits with 3 if a data set given by name is not ready.
    """
    from vitbench.data.tfds.status import status_of

    found = [status_of(one) for one in _chosen(names)]
    if as_json:
        click.echo(json.dumps([asdict(one) for one in found], indent=1))
    else:
        for one in found:
            colour = {"ready": "green", "broken": "red"}.get(one.state)
            click.echo(click.style(one.line, fg=colour) if colour else one.line)
        if not names:
            click.echo(
                "data sets of further test sets are shown by name: imagenet_v2, imagenet_a, …", err=True
            )
            _show_caches()
    return 3 if names and any(one.state != "ready" for one in found) else 0


def _show_caches() -> None:
    """Print the sizes of the disk caches."""
    from vitbench.core.format import file_size
    from vitbench.core.settings import cache_dir
    from vitbench.data import decoded_cache, disk_cache
    from vitbench.engine import feature_cache

    limits = {"features": feature_cache.limit_bytes(), "decoded": decoded_cache.limit_bytes()}
    for name, suffix in (("features", feature_cache.SUFFIX), ("decoded", decoded_cache.SUFFIX)):
        found = disk_cache.usage(cache_dir() / name, suffix, limits[name])
        size = f"{file_size(found.size_bytes)} of {file_size(found.limit_bytes)} (VITBENCH_{name.upper()}_GB)"
        click.echo(f"{'cache: ' + name:45} {found.arrays:,} arrays, {size} in {cache_dir() / name}", err=True)


@data.command(no_args_is_help=True)
@NAMES
@DATA_DIR
@click.option(
    "--format",
    "form",
    type=click.Choice(["array_record", "tfrecord"]),
    default="tfrecord",
    show_default=True,
    help="File format of the prepared data set.",
)
@click.option(
    "-j", "--jobs", "at_once", type=click.IntRange(1, 16), default=1, show_default=True,
    help="Data sets prepared at once; with more than one, TFDS's output goes to files.",
)  # fmt: skip
def prepare(names: tuple[str, ...], form: str, at_once: int) -> None:
    """Download and prepare data sets, except those that are ready. Needs `pip install 'vitbench[prepare]'`.

    `huggingface:OWNER/NAME` (with ,revision=… and ,config=…) downloads a data set's Parquet files from the hub, and needs
    nothing else. What is there already is kept: the same command goes on. At the end it says what is ready.
    """
    from vitbench.core.errors import DataMissingError, Problem
    from vitbench.data.tfds.prepare_all import prepare_all
    from vitbench.data.tfds.status import status_of

    of_hub = [name for name in names if name.startswith(HUB)]
    chosen = _chosen(tuple(name for name in names if name not in of_hub)) if len(of_hub) < len(names) else []
    problems: list[Problem] = []
    for name in of_hub:
        try:
            click.echo(_from_hub(name))
        except DataMissingError as error:
            problems += error.problems
    with _prepared_bar() as (say, show):
        problems += prepare_all(chosen, form, at_once, say, show)
    for one in chosen:
        click.echo(status_of(one).line)
    if problems:
        raise DataMissingError(problems)


@contextlib.contextmanager
def _prepared_bar() -> Iterator[tuple[Callable[[str], None], Callable[[int, int, str], None]]]:
    """Lines on stderr, above a bar of data sets; the bar is silent unless stderr is a terminal."""
    from tqdm import tqdm

    with tqdm(disable=not sys.stderr.isatty(), file=sys.stderr, leave=False, unit="data set") as bar:

        def say(text: str) -> None:
            tqdm.write(text, file=sys.stderr)

        def show(done: int, total: int, under_way: str) -> None:
            bar.total = total
            bar.set_postfix_str(under_way, refresh=False)
            bar.update(done - bar.n)
            bar.refresh()

        yield say, show


def _from_hub(name: str) -> str:
    """Download a data set of the hub, and return what was downloaded in words."""
    from vitbench.core.format import file_size
    from vitbench.data.hub import HubData
    from vitbench.suite.command_line import entry_of

    entry = entry_of(name, "data prepare")
    wanted = HubData(
        entry["name"].removeprefix(HUB), str(entry.get("revision", "main")), str(entry.get("config", ""))
    )
    found = wanted.download()
    return f"{wanted.spec}: ready, {len(found.files)} files, {file_size(found.size_bytes)}, commit {found.commit}"


@data.command(no_args_is_help=True)
@NAMES
@DATA_DIR
@JSON
def verify(names: tuple[str, ...], as_json: bool) -> int:
    """Verify data sets against the reference: sizes, order, draws, labels.

    This reads all images. Of a folder of images, equal ones in two splits or classes are listed, and files that are not read;
    it is also checked for being a known copy of VTAB-1k.
    """
    from vitbench.data.tfds.verify import verify as verify_one

    rows: list[tuple[str, Item]] = []
    marks = {True: click.style("ok  ", fg="green"), False: click.style("FAIL", fg="red"), None: "    "}

    def add(name: str, item: Item) -> None:
        rows.append((name, item))
        if not as_json:  # at once: a whole data set may take hours
            click.echo(f"{marks[item.ok]} {name}  {item.what}: {item.text}")

    for name in names:
        if _is_folder(name):
            for item in _of_folder(Path(name)):
                add(name, item)
    rest = tuple(name for name in names if not _is_folder(name))
    with _bar() as report:
        for one in _chosen(rest) if rest else []:
            for item in verify_one(one, report):
                add(one.name, item)
    if as_json:
        click.echo(json.dumps([{"name": name, **asdict(item)} for name, item in rows], indent=1))
    return 0 if all(item.ok is not False for _, item in rows) else 1


def _of_folder(path: Path) -> Iterator[Item]:
    """The checks of a folder of images."""
    from vitbench.core.registry import TASKS
    from vitbench.data.image_folder import split_folders
    from vitbench.data.tfds.verify import recognise_dump
    from vitbench.data.verify_folder import verify_folder

    yield recognise_dump(path)
    if "train" in split_folders(path):
        yield from verify_folder(TASKS.make("folder", {"path": path})[1])


def _is_folder(name: str) -> bool:
    """Whether a name can only be a folder of images."""
    from vitbench.core.registry import TASKS
    from vitbench.data.tfds.dataset import DATA_SETS
    from vitbench.engine.components import load_all

    load_all()
    return Path(name).is_dir() and name not in DATA_SETS and name not in TASKS.specs()


@contextlib.contextmanager
def _bar() -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar, moved by (what, done, total); silent unless stderr is a terminal."""
    from tqdm import tqdm

    with tqdm(disable=not sys.stderr.isatty(), file=sys.stderr, leave=False, unit="example") as bar:

        def report(what: str, done: int, total: int) -> None:
            bar.total = total
            bar.set_description_str(what, refresh=False)
            bar.update(done - bar.n)

        yield report
