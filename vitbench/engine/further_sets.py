"""Scoring a task's further test sets, each from the same adapted model (docs/protocols.md#further-test-sets)."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from vitbench.api import TOP1, Labels, Split, Task, TestSet
from vitbench.core.class_scores import ImageScores
from vitbench.core.errors import VitbenchError
from vitbench.core.record import Metric, ScoreKind, TestSetFacts
from vitbench.data.budgets import thinned
from vitbench.engine.answers import Answers, answer
from vitbench.engine.scoring import further, score
from vitbench.store.predictions import CLUSTER

Head = Callable[[Tensor], Tensor]
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")  # it names files


@dataclass(frozen=True)
class ScoredSet:
    """A further test set: its score, the facts of it, and one row per image."""

    name: str
    metric: Metric
    facts: TestSetFacts
    table: pd.DataFrame


@dataclass(frozen=True)
class Scorer:
    """What scores all test sets of a job: its head, how its features are read, and its task's own test split.

    `test_features` (N, D) are those of `test`.
    """

    head: Head
    features: Callable[[Split], Tensor]
    num_classes: int
    kind: ScoreKind
    limit: int | None
    test: Split
    test_features: Tensor

    def scored(self, task: Task) -> Iterator[ScoredSet]:
        """Every further test set of a task, opened one after another.

        Raises:
            VitbenchError: a set's name or labels cannot be.
        """
        names = [rule.name for rule in task.rules]
        for test_set in task.test_sets():
            if test_set.name in names or not NAME.fullmatch(test_set.name):
                raise VitbenchError(
                    f"a test set cannot be named {test_set.name!r}: its metric goes by that name"
                )
            names.append(test_set.name)
            yield self._set(test_set)

    def _set(self, test_set: TestSet) -> ScoredSet:
        parts = {name: thinned(open_(), self.limit) for name, open_ in test_set.parts.items()}
        answers = [self._answers(test_set, split, self.features(split)) for split in parts.values()]
        whole = _joined(list(parts.values()))
        together = Answers(
            np.concatenate([each.predictions for each in answers]),
            np.concatenate([each.margins for each in answers]),
            ImageScores.joined(each.images for each in answers),
        )
        classes = self.num_classes if test_set.classes is None else len(test_set.classes)
        by_part = {
            name: score(TOP1, found.predictions, split)
            for (name, split), found in zip(parts.items(), answers, strict=True)
        }
        facts = TestSetFacts(
            n=len(whole),
            classes=classes,
            dataset=test_set.dataset,
            version=test_set.version,
            fingerprints={name: split.source.fingerprint for name, split in parts.items()},
            departures=(*test_set.departures, *_other_sizes(test_set, parts, self.limit)),
            in_distribution=self._in_distribution(test_set),
            parts=by_part if len(parts) > 1 else {},
            relative_error=_relative_error(test_set, by_part),
            further=further(TOP1, *_among(test_set, together, whole), classes, self.kind),
        )
        metric = score(TOP1, together.predictions, whole)
        return ScoredSet(test_set.name, metric, facts, _table(test_set.name, parts, whole, together))

    def _answers(self, test_set: TestSet, split: Split, features: Tensor) -> Answers:
        """The answers to images of a split, the best of the set's classes."""
        if test_set.classes is None:
            return answer(self.head, features, split.labels, self.num_classes, self.kind)
        return answer_among(
            self.head, features, split.labels, np.asarray(test_set.classes), self.num_classes, self.kind
        )

    def _in_distribution(self, test_set: TestSet) -> Metric | None:
        """The score of the task's own test images of the set's classes, where these are not all."""
        if test_set.classes is None:
            return None
        chosen = np.flatnonzero(np.isin(self.test.labels, test_set.classes))
        if not len(chosen):
            return None
        own, features = self.test.take(chosen), self.test_features[torch.from_numpy(chosen)]
        return score(TOP1, self._answers(test_set, own, features).predictions, own)


def answer_among(
    head: Head, features: Tensor, labels: Labels, classes: Labels, num_classes: int, kind: ScoreKind
) -> Answers:
    """Answers that are the best of some of the head's classes; labels (N,) and predictions (N,) are numbers of all classes.

    Raises:
        VitbenchError: a label is not among these classes.
    """
    place = np.full(num_classes, -1)
    place[classes] = np.arange(len(classes))
    if len(labels) and place[labels].min() < 0:
        raise VitbenchError(f"label {labels[place[labels] < 0][0]} is not among the test set's classes")
    columns = torch.from_numpy(classes)
    found = answer(lambda x: head(x)[:, columns.to(x.device)], features, place[labels], len(classes), kind)
    return replace(found, predictions=classes[found.predictions])


def _joined(parts: list[Split]) -> Split:
    """All parts as one split; images of one name in several parts belong together.

    Its source is that of the first: it is for scoring, not for reading.
    """
    if len(parts) == 1:
        return parts[0]
    names = [PurePosixPath(split.source.name(int(i))).name for split in parts for i in split.indices]
    clusters = pd.factorize(pd.Series(names))[0].astype(np.int64)
    repeated = len(np.unique(clusters)) < len(clusters)
    indices, labels = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("indices", "labels")
    )
    return Split(parts[0].source, indices, labels, clusters if repeated else None)


def _among(test_set: TestSet, answers: Answers, split: Split) -> tuple[Answers, Split]:
    """Both with classes counted among the set's, as metrics of each class need them."""
    if test_set.classes is None:
        return answers, split
    place = {number: i for i, number in enumerate(test_set.classes)}
    answers = replace(
        answers, predictions=np.asarray([place[n] for n in answers.predictions.tolist()], dtype=np.int64)
    )
    return answers, replace(
        split, labels=np.asarray([place[n] for n in split.labels.tolist()], dtype=np.int64)
    )


def _other_sizes(test_set: TestSet, parts: dict[str, Split], limit: int | None) -> Iterator[str]:
    """The parts that have another number of images than the reference's."""
    for name, split in parts.items():
        if test_set.size is not None and limit is None and len(split) != test_set.size:
            what = f"{test_set.name} {name}".strip()
            yield f"{what} has {len(split):,} images, the reference {test_set.size:,}"


def _relative_error(test_set: TestSet, by_part: dict[str, Metric]) -> float | None:
    """The mean over groups of their mean error divided by the reference network's; None without reference errors."""
    if not test_set.reference_errors:
        return None
    found = []
    for group, reference in test_set.reference_errors.items():
        errors = [1 - metric.value for name, metric in by_part.items() if name.rpartition("_")[0] == group]
        if not errors:
            return None
        found.append(math.fsum(errors) / len(errors) / reference)
    return math.fsum(found) / len(found)


def _table(name: str, parts: dict[str, Split], whole: Split, answers: Answers) -> pd.DataFrame:
    """One row per image, of all parts."""
    names = [split.source.name(int(i)) for split in parts.values() for i in split.indices]
    sizes = [len(split) for split in parts.values()]
    part = pd.Categorical(np.repeat(np.asarray(list(parts)), sizes), categories=list(parts))
    return pd.DataFrame(
        {
            **({"part": part} if len(parts) > 1 else {}),
            "index": whole.indices,
            "name": names,
            "label": whole.labels,
            "prediction": answers.predictions,
            **({} if whole.clusters is None else {CLUSTER: whole.clusters}),
            f"{name}_correct": TOP1.correct(answers.predictions, whole),
        }
    )
