"""Images of what was got wrong most surely, for a page that is asked to carry them: they are read from the data again."""

from __future__ import annotations

import base64
import io
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image

from vitbench.api import Pixels, Split, Task
from vitbench.core.errors import VitbenchError
from vitbench.core.job import Job
from vitbench.core.plugins import load_all
from vitbench.core.record import Record
from vitbench.core.registry import TASKS
from vitbench.data.budgets import thinned
from vitbench.report.cell_details import Worst, cell_name
from vitbench.report.keys import component_key, setting_key, task_key
from vitbench.store.run_dir import RunDir

SIDE_PX = 96  # of a thumbnail: some 3 kB


def surest_mistakes(runs: Sequence[Path], records: Sequence[Record], tell: Callable[[str], None]) -> Worst:
    """By cell: thumbnails of the test images that its first record got wrong, each with its class and what it was taken for.

    Cells whose data are not here, or not what was scored, are left out, and `tell` says why.
    """
    load_all(())
    cells: dict[tuple[str, str, str], list[Record]] = defaultdict(list)
    for record in records:
        job = record.job
        cells[setting_key(job), component_key(job.backbone), task_key(record)].append(record)
    tests: dict[str, tuple[Task, Split] | str] = {}
    found = {}
    for own in cells.values():
        scored = [record for record in own if record.status == "ok"]
        if not scored:
            continue
        first = min(scored, key=lambda record: record.job.seed)
        images = _images(runs, first, tests)
        if isinstance(images, str):
            tell(f"{first.job.title}: no images: {images}")
        elif images:
            found[cell_name(own)] = images
    return found


def _images(
    runs: Sequence[Path], record: Record, tests: dict[str, tuple[Task, Split] | str]
) -> list[tuple[str, str, str]] | str:
    """Its images, or why there are none."""
    place = f"{component_key(record.job.task)} {record.job.limit}"
    if place not in tests:
        tests[place] = _test(record.job)
    opened = tests[place]
    if isinstance(opened, str):
        return opened
    task, test = opened
    if not record.data or test.source.fingerprint != record.data.fingerprints.get("test"):
        return "the test images here are not those that were scored"
    run = next((run for run in map(RunDir, runs) if run.predictions_path(record.key).is_file()), None)
    if run is None:
        return "its predictions are not there"
    try:
        said = run.predictions(record)["prediction"].to_numpy()
        pixels = test.source.read([int(test.indices[position]) for position in record.worst])
    except VitbenchError as error:
        return str(error).partition("\n")[0]
    names = task.class_names
    return [
        (_thumbnail(one), names[int(test.labels[position])], names[int(said[position])])
        for one, position in zip(pixels, record.worst, strict=True)
    ]


def _test(job: Job) -> tuple[Task, Split] | str:
    try:
        task: Task = TASKS.make(job.task.spec, job.task.options)[1]
        return task, thinned(task.test(), job.limit)
    except Exception as error:  # noqa: BLE001  a plugin's own code may raise anything
        return str(error).partition("\n")[0]


def _thumbnail(pixels: Pixels) -> str:
    """A JPEG no larger than need be, as a data address; small images as they are, losslessly."""
    image, buffer = Image.fromarray(pixels), io.BytesIO()
    if max(image.size) <= SIDE_PX // 2:
        image.save(buffer, "PNG", optimize=True)
        kind = "png"
    else:
        image.thumbnail((SIDE_PX, SIDE_PX))
        image.save(buffer, "JPEG", quality=80)
        kind = "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
