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
from vitbench.data.tfds.dataset import DataSet, ManualFile, data_dir
from vitbench.data.tfds.status import Status, manual_dir, missing_manual, needed_bytes, status_of

HTML_MARKS = (b"<!doctype html", b"<html")
HEAD_BYTES = 512
ARCHIVES = (".rar", ".zip", ".tar", ".gz", ".7z")


def check_before(data: DataSet, reserved_bytes: int = 0) -> None:
    """Check that preparation can succeed, beside others that still need so much of the disk.

    Raises:
        DataMissingError: manual files are missing, or web pages.
        UsageError: TensorFlow is not installed, or there is not enough disk space.
    """
    if problems := [*map(_missing, [data.name] * len(data.manual), missing_manual(data)), *_pages(data)]:
        raise DataMissingError(problems)
    if find_spec("tensorflow") is None:
        what = "preparing a data set requires TensorFlow (running suites does not)"
        raise UsageError(Problem(what, next_step="pip install 'vitbench[prepare]'"))
    folder = data_dir()
    folder.mkdir(parents=True, exist_ok=True)
    free, needed = shutil.disk_usage(folder).free - reserved_bytes, needed_bytes(data)
    if free < needed:
        raise UsageError(
            f"preparing {data.name} takes about {file_size(needed)}, {folder} has {file_size(free)} left; see --data-dir"
        )


def _missing(name: str, file: ManualFile) -> Problem:
    """What is missing, and what to do: an archive beside it is to be extracted, if it is one."""
    wanted = manual_dir() / file.path
    archives = [path for path in manual_dir().glob(f"{wanted.name}.*") if path.suffix in ARCHIVES]
    if archives and is_page(archives[0]):
        return _page(name, archives[0], file)
    step = f"extract {archives[0]}" if archives else f"download it from {file.source}"
    return Problem(f"{name}: {wanted} is missing (about {file_size(file.about_bytes)})", next_step=step)


def _pages(data: DataSet) -> list[Problem]:
    """Web pages that were saved where manual downloads should be."""
    there = ((manual_dir() / file.path, file) for file in data.manual)
    return [_page(data.name, path, file) for path, file in there if path.is_file() and is_page(path)]


def _page(name: str, path: Path, file: ManualFile) -> Problem:
    what = f"{name}: {path} is an HTML page instead of an archive: a login or a confirmation was saved"
    return Problem(what, next_step=f"download it again, in a browser, from {file.source}")


def prepare(data: DataSet, file_format: str = "tfrecord", logs: Path | None = None) -> Status:
    """Download and prepare a data set; archives that exist are not downloaded again.

    TFDS's progress goes to stderr, or to a file in `logs`.

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
    log = logs / f"{data.name.replace('/', '-')}.log" if logs else None
    returncode = _run_process(data.name, file_format, log)
    after = status_of(data)
    if returncode != 0 or after.state != "ready":
        raise DataMissingError(_explain(data, began, log))
    return after


def _run_process(name: str, file_format: str, log: Path | None) -> int:
    """Prepare a data set in a subprocess that sees no GPU; returns its exit status."""
    command = [sys.executable, "-m", "vitbench.data.tfds.prepare_process", name, str(data_dir()), file_format]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "2"}
    if log is None:
        return subprocess.run(command, env=environment, check=False).returncode
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as file:
        return subprocess.run(command, env=environment, check=False, stdout=file, stderr=file).returncode


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


def _explain(data: DataSet, began: float, log: Path | None) -> Problem:
    page = html_instead(data_dir() / "downloads", began)
    if page is not None:
        return Problem(
            f"{data.name}: the server sent an HTML page instead of the archive ({page})",
            next_step="open its address in a browser: it may require a login or a confirmation, or be down",
        )
    return Problem(
        f"{data.name} was not prepared: see the message of TFDS {f'in {log}' if log else 'above'}",
        next_step=f"vitbench data prepare {data.name}  (downloaded files are kept)",
    )


def html_instead(downloads: Path, since: float) -> Path | None:
    """A file downloaded since then that is an HTML page instead of an archive; None if there is none."""
    for path in downloads.rglob("*") if downloads.is_dir() else []:
        recent = path.is_file() and path.suffix != ".INFO" and path.stat().st_mtime >= since - 1
        if recent and is_page(path):
            return path
    return None


def is_page(path: Path) -> bool:
    """Whether a file is an HTML page."""
    with path.open("rb") as file:
        return file.read(HEAD_BYTES).lstrip().lower().startswith(HTML_MARKS)
