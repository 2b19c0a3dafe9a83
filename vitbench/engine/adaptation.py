"""The Adaptation of one job: the data, features and pixels that its protocol is given."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vitbench.api import Adaptation, Split
from vitbench.core.job import PreprocessName
from vitbench.data.preprocess import normalise, preset_of
from vitbench.engine.features import FeatureReader
from vitbench.engine.job_log import LOG
from vitbench.store.heartbeat import HeartbeatWriter


class Notes:
    """Notes gathered while a job runs, each once, and in its log."""

    def __init__(self) -> None:
        self._texts: dict[str, None] = {}

    def add(self, text: str) -> None:
        """Keep a note."""
        LOG.info("note: %s", text)
        self._texts[text] = None

    def __call__(self) -> tuple[str, ...]:
        """All notes in the order in which they came."""
        return tuple(self._texts)


@dataclass(frozen=True, kw_only=True)
class JobAdaptation(Adaptation):
    """An Adaptation that reads features from the cache and pixels through the job's preprocessing."""

    reader: FeatureReader
    preprocess: PreprocessName
    notes: Notes
    heartbeat: HeartbeatWriter

    def features(self, split: Split) -> Tensor:
        """Features (N, D) float32 of the backbone as it was loaded, on the device."""
        found = self.reader(split)
        self.heartbeat.update("adapt")  # "features" is over, and what follows may take long
        return found

    def pixels(self, split: Split, size_px: int | None = None) -> Tensor:
        """Images (N, 3, S, S) after the job's preprocessing, on the device."""
        how = preset_of(self.preprocess, self.backbone, size_px)
        batches = replace(self.reader, preprocess=how).pixel_batches(split)
        return torch.cat([batch.to(self.device) for batch in batches])

    def normalise(self, images: Tensor) -> Tensor:
        """Images with the backbone's mean and std applied."""
        return normalise(images, self.backbone.input.mean, self.backbone.input.std)

    def note(self, text: str) -> None:
        """Add a note to the record."""
        self.notes.add(text)

    def report(self, done: int, total: int, stage: str = "") -> None:
        """Show `done` of `total` as progress, of a stage if it has a name."""
        self.heartbeat.update(f"adapt, {stage}" if stage else "adapt", done, total)
