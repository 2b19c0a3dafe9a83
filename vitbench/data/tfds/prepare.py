"""Download and preparation of a data set by TFDS: checks before it, the subprocess without GPUs, and the cause of failures."""

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
    """Check that preparation can succeed.

    Raises:
        DataMissingError: manual files are missing.
        UsageError: TensorFlow is not installed, or there is not enough disk space.
    """
    if absent := missing_manual(data):
        raise DataMissingError(
            [
                Problem(f"{data.name}: {manual_dir() / file.path} is missing (about {file_size(file.about_bytes)})",
                        next_step=f"download it from {file.source}")
                for file in absent
            ]
        )  # fmt: skip
    if find_spec("tensorflow") is None:
        what = "preparing a data set requires TensorFlow (running suites does not)"
        raise UsageError(Problem(what, next_step="pip install 'vitbench[prepare]'"))
    folder = data_dir()
    folder.mkdir(parents=True, exist_ok=True)
    free, needed = shutil.disk_usage(folder).free, needed_bytes(data)
    if free < needed:
        raise UsageError(
            f"preparing {data.name} takes about {file_size(needed)}, {folder} has {file_size(free)} left; see --data-dir"
        )


def prepare(data: DataSet, file_format: str = "tfrecord") -> Status:
    """Download and prepare a data set, with TFDS's progress on stderr; archives that exist are not downloaded again.

    tfrecord is the default: it reads faster here (tests/benchmarks/loader.py), and tf.data users can share it.

    Raises:
        DataMissingError: it failed; the message gives the cause if it is known.
        UsageError: see `check_before`.
    """
    found = status_of(data)
    if found.state == "broken" and len(data.versions()) > 1:
        found = _move_aside(data)
    if found.state == "ready":
        return found
    check_before(data)
    _move_aside(data)
    began = time.time()
    returncode = _run_process(data.name, file_format)
    after = status_of(data)
    if returncode != 0 or after.state != "ready":
        raise DataMissingError(_explain(data, began))
    return after


def _run_process(name: str, file_format: str) -> int:
    """Prepare a data set in a subprocess that sees no GPU; returns its exit status."""
    command = [sys.executable, "-m", "vitbench.data.tfds.prepare_process", name, str(data_dir()), file_format]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "2"}
    return subprocess.run(command, env=environment, check=False).returncode


def _move_aside(data: DataSet) -> Status:
    """Rename the folders of broken copies, which TFDS would regard as prepared; returns the state of what is left."""
    folder = data_dir() / data.name
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        numbered = path.is_dir() and all(map(str.isdecimal, path.name.split(".")))
        if numbered and not (path / "dataset_info.json").is_file():
            _rename(path)
    while (found := status_of(data)).state == "broken" and (newest := data.newest()) is not None:
        _rename(newest)
    return found


def _rename(path: Path) -> None:
    path.rename(path.with_name(f"{path.name}.broken-{time.strftime('%Y%m%dT%H%M%S')}"))


def _explain(data: DataSet, began: float) -> Problem:
    page = html_instead(data_dir() / "downloads", began)
    if page is not None:
        return Problem(
            f"{data.name}: the server sent an HTML page instead of the archive ({page})",
            next_step="open its address in a browser: it may require a login or a confirmation, or be down",
        )
    return Problem(
        f"{data.name} was not prepared: see the message of TFDS above",
        next_step=f"vitbench data prepare {data.name}  (downloaded files are kept)",
    )


def html_instead(downloads: Path, since: float) -> Path | None:
    """A file downloaded since then that is an HTML page instead of an archive; None if there is none."""
    for path in downloads.rglob("*") if downloads.is_dir() else []:
        if path.is_file() and path.suffix != ".INFO" and path.stat().st_mtime >= since - 1:
            with path.open("rb") as file:
                if file.read(HEAD_BYTES).lstrip().lower().startswith(HTML_MARKS):
                    return path
    return None
