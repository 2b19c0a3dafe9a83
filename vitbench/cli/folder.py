"""`vitbench folder`: how well backbones do on a folder of one's own images, in one line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vitbench.cli.options import BACKBONES, OUT, PLUGINS, RUN_OPTIONS, SEEDS, dtype, fields_of

if TYPE_CHECKING:
    from vitbench.api import Task

BASELINE = {"name": "raw_pixels", "label": "Raw pixels"}
WAYS = """name a backbone to evaluate on it:
  vitbench folder {folder} --backbone timm:vit_base_patch16_224.augreg_in21k     downloads weights once
  vitbench folder {folder} --backbone "timm:ARCHITECTURE,checkpoint=FILE"        a checkpoint of yours
  vitbench list backbones                                                        all others"""


@click.command(no_args_is_help=True)
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@BACKBONES
@OUT
@SEEDS
@dtype()
@PLUGINS
@RUN_OPTIONS
def folder(folder: Path, out: Path | None, **options: Any) -> int:
    """Evaluate backbones on a folder of images.

    FOLDER has train/<class>/* and optionally val/ and test/, or the class folders themselves. Ridge probes on 1, 5 and 10
    images per class and on all, and kNN. Without --backbone it says what is in the folder, and how to name one.
    """
    from vitbench.cli.run import execute, interrupted_by_sigterm
    from vitbench.engine.plan import plan_located
    from vitbench.engine.run import Overrides, RunOptions
    from vitbench.suite import find_suite, read_suite

    if not options["backbones"]:
        click.echo(_described(folder), err=True)
        click.echo(WAYS.format(folder=folder), err=True)
        return 2
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", folder.resolve().name).strip("-.") or "images"
    suite = read_suite(find_suite("folder"))
    suite.data |= {"name": name, "tasks": [{"name": name, "source": "folder", "path": str(folder.resolve())}]}
    given = {**options, "backbones": (BASELINE, *options["backbones"])}
    with interrupted_by_sigterm():
        plan = plan_located(suite, out or Path("runs") / name, fields_of(Overrides, given))
        return execute(plan, fields_of(RunOptions, options), options)


def _described(folder: Path) -> str:
    """How many images and classes each split has, and what is odd about them."""
    from vitbench.core.registry import TASKS
    from vitbench.engine.components import load_all

    load_all()
    task: Task = TASKS.make("folder", {"path": folder})[1]
    splits = {"train": task.train(), "val": task.val(), "test": task.test()}
    sizes = ", ".join(f"{len(split):,} {name}" for name, split in splits.items())
    lines = [
        f"{folder}: {len(task.class_names):,} classes, {sizes} images",
        *task.departures(),
        *task.remarks(),
    ]
    return "\n".join(lines)
