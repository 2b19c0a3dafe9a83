"""Images of the most confident errors, read from the data sets again, for pages that embed them."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image

from vitbench.api import Pixels, Split, Task
from vitbench.core.errors import VitbenchError
from vitbench.core.job import Job
from vitbench.core.record import Record
from vitbench.core.registry import TASKS
from vitbench.data.budgets import thinned
from vitbench.report.cell_details import Worst, cell_name
from vitbench.report.keys import cells, component_key
from vitbench.store.run_dir import RunDir

THUMBNAIL_PX = 96  # about 3 kB


def most_confident_errors(
    runs: Sequence[Path], records: Sequence[Record], warn: Callable[[str], None]
) -> Worst:
    """By cell: thumbnails of the test images that its first record got wrong, with true and predicted class.

    Components must be registered. Cells whose data are missing, or are not the data that were scored, are left out, and
    `warn` gets the reason.
    """
    tests: dict[str, tuple[Task, Split] | str] = {}
    found = {}
    for own in cells(records).values():
        first = next((record for record in own if record.status == "ok"), None)
        if first is None:
            continue
        images = _images(runs, first, tests)
        if isinstance(images, str):
            warn(f"{first.job.title}: no images: {images}")
        elif images:
            found[cell_name(own)] = images
    return found


def _images(
    runs: Sequence[Path], record: Record, tests: dict[str, tuple[Task, Split] | str]
) -> list[tuple[str, str, str]] | str:
    """A record's images, or the reason why there are none."""
    key = f"{component_key(record.job.task)} {record.job.limit}"
    if key not in tests:
        tests[key] = _test(record.job)
    opened = tests[key]
    if isinstance(opened, str):
        return opened
    task, test = opened
    if not record.data or test.source.fingerprint != record.data.fingerprints.get("test"):
        return "the test images on this machine are not the ones that were scored"
    run = next((run for run in map(RunDir, runs) if run.predictions_path(record.key).is_file()), None)
    if run is None:
        return "its predictions file is missing"
    try:
        predicted = run.predictions(record)["prediction"].to_numpy()
        pixels = test.source.read([int(test.indices[position]) for position in record.worst])
    except VitbenchError as error:
        return str(error).partition("\n")[0]
    names = task.class_names
    return [
        (_thumbnail(one), names[int(test.labels[position])], names[int(predicted[position])])
        for one, position in zip(pixels, record.worst, strict=True)
    ]


def _test(job: Job) -> tuple[Task, Split] | str:
    try:
        task: Task = TASKS.make(job.task.spec, job.task.options)[1]
        return task, thinned(task.test(), job.limit)
    except Exception as error:  # noqa: BLE001  a plugin's own code may raise anything
        return str(error).partition("\n")[0]


def _thumbnail(pixels: Pixels) -> str:
    """A small JPEG as a data URL; small images stay lossless at their size."""
    image, buffer = Image.fromarray(pixels), io.BytesIO()
    if max(image.size) <= THUMBNAIL_PX // 2:
        image.save(buffer, "PNG", optimize=True)
        kind = "png"
    else:
        image.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
        image.save(buffer, "JPEG", quality=80)
        kind = "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
