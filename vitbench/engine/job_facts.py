"""What a record says of a job's data, and the remarks on its weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vitbench.api import Provenance, Split, Task
from vitbench.core.entry import Entry
from vitbench.core.record import DataFacts, Metric, Trial
from vitbench.data.budgets import LabelledData
from vitbench.data.duplicates import duplicates


def data_facts(entry: Entry, task: Task, labelled: LabelledData, test: Split) -> DataFacts:
    """The data of a job whose test split has been opened: sizes, fingerprints, departures, images that are in two splits."""
    splits = {"train": labelled.train, "val": labelled.val, "test": test}
    return DataFacts(
        group=entry.labels.get("group", ""),
        dataset=entry.labels.get("dataset", ""),
        num_classes=len(task.class_names),
        n_train=len(labelled.train),
        n_val=len(labelled.val),
        n_test=len(test),
        fingerprints={name: split.source.fingerprint for name, split in splits.items() if len(split)},
        skipped=task.skipped(),
        departures=task.departures(),
        version=task.version,
        duplicates=duplicates(splits),
    )


def weights_remarks(origin: Provenance) -> Iterator[str]:
    """What a reader must know of the network: what it is, what was taken of its checkpoint, and what was not used."""
    yield from origin.notes
    if origin.load and origin.load.taken:
        yield f"weights taken: {origin.load.taken}"
    if origin.load and origin.load.unused:
        yield f"in the checkpoint and not used: {', '.join(origin.load.unused)}"


def score_remarks(trials: Sequence[Trial], score: Metric) -> Iterator[str]:
    """A doubt about a score: a head that was good on validation and is not on test may be a constant predictor."""
    for trial in trials:
        if (
            trial.chosen
            and trial.split == "val"
            and trial.value is not None
            and score.value < trial.value / 2
        ):
            yield (
                f"test ({score.value:.1%}) is below half of validation ({trial.value:.1%}): other data, or a fault in "
                "selection"
            )
