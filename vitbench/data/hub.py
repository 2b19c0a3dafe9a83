"""Data sets of the Hugging Face hub: their Parquet files, downloaded by `vitbench data prepare`, never by a run.

What was downloaded is noted beside the caches with its commit, so that a run neither asks the hub nor takes half a download for
a whole one.
"""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from vitbench.core.errors import DataMissingError, Problem, UsageError, VitbenchError
from vitbench.core.files import digest_bytes, write_atomically
from vitbench.core.format import file_size
from vitbench.core.settings import cache_dir

ANSWER_WITHIN_S = 15.0
CONVERTED = "refs/convert/parquet"  # the hub's own copy of other formats
COMMIT_LETTERS = 12


class Snapshot(BaseModel):
    """What was downloaded: the commit, the folder in the hub's cache, and the Parquet files in it."""

    model_config = ConfigDict(frozen=True)

    commit: str
    folder: Path
    files: tuple[str, ...]

    @property
    def size_bytes(self) -> int:
        """Of all files."""
        return sum((self.folder / file).stat().st_size for file in self.files)


@dataclass(frozen=True)
class HubData:
    """A data set of the hub, at a branch, tag or commit; of one `config`, if it has several."""

    repository: str
    revision: str = "main"
    config: str = ""

    @property
    def spec(self) -> str:
        """What `vitbench data prepare` calls it."""
        config = f",config={self.config}" if self.config else ""
        revision = f",revision={self.revision}" if self.revision != "main" else ""
        return f"huggingface:{self.repository}{revision}{config}"

    @property
    def _note(self) -> Path:
        key = digest_bytes(self.repository.encode(), self.revision.encode(), self.config.encode())[:16]
        return cache_dir() / "hub" / f"{key}.json"

    def downloaded(self) -> Snapshot:
        """What `download` has put on this machine.

        Raises:
            DataMissingError: nothing, or a file has gone.
        """
        step = f"vitbench data prepare {self.spec!r}"
        try:
            found = Snapshot.model_validate_json(self._note.read_text(encoding="utf-8"))
        except (OSError, ValidationError):
            what = f"data set {self.repository} of the Hugging Face hub is not on this machine"
            raise DataMissingError(Problem(what, next_step=step)) from None
        if gone := [file for file in found.files if not (found.folder / file).is_file()]:
            what = f"data set {self.repository}: {found.folder / gone[0]} has gone from the hub's cache"
            raise DataMissingError(Problem(what, next_step=step))
        return found

    def download(self) -> Snapshot:
        """Download its Parquet files, with the hub's progress on stderr; a broken download goes on where it stopped.

        Raises:
            DataMissingError: the hub does not answer, or has no such data set or no Parquet files of it.
            UsageError: the disk has no room.
        """
        hub: Any = importlib.import_module("huggingface_hub")
        try:
            about = hub.HfApi().dataset_info(
                self.repository, revision=self.revision, files_metadata=True, timeout=ANSWER_WITHIN_S
            )
            sizes = {
                each.rfilename: each.size or 0 for each in about.siblings or () if self._has(each.rfilename)
            }
            self._check(sizes)
            places = {
                file: Path(
                    hub.hf_hub_download(self.repository, file, repo_type="dataset", revision=about.sha)
                )
                for file in sorted(sizes)
            }
        except VitbenchError:
            raise
        except Exception as error:
            first = " ".join(str(error).split())[:300]
            raise DataMissingError(f"{self.spec}: {first}") from error
        file, place = next(iter(places.items()))
        snapshot = Snapshot(
            commit=about.sha, folder=place.parents[len(Path(file).parts) - 1], files=tuple(places)
        )
        write_atomically(self._note, snapshot.model_dump_json())
        return snapshot

    def _has(self, file: str) -> bool:
        """Whether a file is of this data set's config."""
        parts = Path(file).parts
        return file.endswith(".parquet") and (not self.config or self.config in parts[:-1])

    def _check(self, sizes: Mapping[str, int]) -> None:
        if not sizes:
            of = f" of config {self.config!r}" if self.config else ""
            step = f"vitbench data prepare 'huggingface:{self.repository},revision={CONVERTED}'"
            raise DataMissingError(Problem(f"{self.spec} has no Parquet files{of}", next_step=step))
        folder = Path(importlib.import_module("huggingface_hub.constants").HF_HUB_CACHE)
        folder.mkdir(parents=True, exist_ok=True)
        free, needed = shutil.disk_usage(folder).free, sum(sizes.values())
        if free < needed:
            raise UsageError(f"{self.spec} takes {file_size(needed)}, {folder} has {file_size(free)} left")
