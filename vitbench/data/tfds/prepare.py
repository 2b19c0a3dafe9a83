"""Preparing a data set: TFDS with TensorFlow, in a process of its own that sees no GPU; checked before, explained after."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

from vitbench.core.errors import DataMissingError, Problem, UsageError
from vitbench.core.format import file_size
from vitbench.data.tfds.dataset import DataSet, data_dir
from vitbench.data.tfds.status import Status, manual_dir, missing_manual, needed_bytes, status_of

HTML_MARKS = (b"<!doctype html", b"<html")
HEAD_BYTES = 512


def check_before(data: DataSet) -> None:
    """See that preparing can succeed.

    Raises:
        DataMissingError: manual files are missing.
        UsageError: TensorFlow is missing, or room on the disk.
    """
    if absent := missing_manual(data):
        raise DataMissingError(
            [
                Problem(f"{data.name}: {manual_dir() / file.path} is missing (about {file_size(file.about_bytes)})",
                        next_step=f"get it from {file.source}")
                for file in absent
            ]
        )  # fmt: skip
    if find_spec("tensorflow") is None:
        what = "preparing a data set needs TensorFlow; running suites does not"
        raise UsageError(Problem(what, next_step="pip install 'vitbench[prepare]'"))
    place = data_dir()
    place.mkdir(parents=True, exist_ok=True)
    free, needed = shutil.disk_usage(place).free, needed_bytes(data)
    if free < needed:
        raise UsageError(
            f"{data.name} takes about {file_size(needed)} to prepare, {place} has {file_size(free)} left; see --data-dir"
        )


def prepare(data: DataSet, file_format: str = "tfrecord") -> Status:
    """Download and prepare, with TFDS's own progress on stderr; archives that are already there are not fetched again.

    tfrecord is the default: it reads faster here (tests/benchmarks/loader.py), and tf.data users can share it.

    Raises:
        DataMissingError: it did not work; the message says why as far as can be told.
        UsageError: see `check_before`.
    """
    found = status_of(data)
    if found.state == "ready":
        return found
    check_before(data)
    if found.state == "broken":
        _move_aside(data)
    command = [
        sys.executable,
        "-m",
        "vitbench.data.tfds.prepare_process",
        data.name,
        str(data_dir()),
        file_format,
    ]
    began = time.time()
    done = subprocess.run(
        command, env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "2"}, check=False
    )
    after = status_of(data)
    if done.returncode != 0 or after.state != "ready":
        raise DataMissingError(_explain(data, began))
    return after


def _move_aside(data: DataSet) -> None:
    """TFDS takes a version's folder for a prepared one, whatever is in it."""
    folder = data_dir() / data.name
    for path in sorted(folder.iterdir()):
        if path.is_dir() and all(map(str.isdecimal, path.name.split("."))):
            path.rename(path.with_name(f"{path.name}.broken-{time.strftime('%Y%m%dT%H%M%S')}"))


def _explain(data: DataSet, began: float) -> Problem:
    page = html_instead(data_dir() / "downloads", began)
    if page is not None:
        return Problem(
            f"{data.name}: the server sent an HTML page in place of the archive ({page})",
            next_step="open its address in a browser; it may ask to log in, to confirm, or be down",
        )
    return Problem(
        f"{data.name} was not prepared: TFDS's own message is above",
        next_step=f"vitbench data prepare {data.name}  (what was downloaded is kept)",
    )


def html_instead(downloads: Path, since: float) -> Path | None:
    """A file downloaded since then that is a web page, where an archive was asked for."""
    for path in downloads.rglob("*") if downloads.is_dir() else []:
        if path.is_file() and path.suffix != ".INFO" and path.stat().st_mtime >= since - 1:
            with path.open("rb") as file:
                if file.read(HEAD_BYTES).lstrip().lower().startswith(HTML_MARKS):
                    return path
    return None
