"""Tasks on prepared data sets: which slices are train, val and test, and which rule gives the labels."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from vitbench.api import TOP1, Part, ScoreRule, Split, Task
from vitbench.core.errors import DataMissingError, Problem, VitbenchError
from vitbench.data.tfds.dataset import DataSet, Prepared, names_digest
from vitbench.data.tfds.description import broken, class_names
from vitbench.data.tfds.known_sizes import SizedTask, assume
from vitbench.data.tfds.release import reencoded
from vitbench.data.tfds.source import RecordSource, labelled, source_of


@dataclass(frozen=True)
class Slice:
    """A part of a TFDS split in stored order, in percent or parts `of` a total, floored (docs/protocols.md#vtab-splits).

    Fractions rather than positions: they are exact for the reference's sizes, and also work for the tests' tiny data sets.
    """

    split: str
    start: int = 0
    stop: int = 100
    of: int = 100

    def bounds(self, sizes: Mapping[str, int], first: int | None = None) -> tuple[int, int]:
        """The first position, and past the last; or only of its `first` examples."""
        n = sizes[self.split]
        start, stop = n * self.start // self.of, n * self.stop // self.of
        return start, stop if first is None else min(stop, start + first)

    def spec(self, sizes: Mapping[str, int], first: int | None = None) -> str:
        """The slice in TFDS's notation with absolute positions."""
        start, stop = self.bounds(sizes, first)
        return f"{self.split}[{start}:{stop}]"


@dataclass(frozen=True)
class Slices:
    """The slices of a task; N-shot budgets draw from `shots`, or from its first `shots_first` examples."""

    train: Slice
    val: Slice
    test: Slice
    shots: Slice
    shots_first: int | None = None


def prepared_task(
    data: DataSet,
    slices: Slices,
    classes: int | Sequence[str],
    *,
    label: str = "label",
    rules: tuple[ScoreRule, ...] = (TOP1,),
    flip: bool = True,
    crop: bool = True,
) -> Task:
    """A task on a prepared data set. `classes` are the class names, or how many of them the data set must have.

    Raises:
        DataMissingError: the data set is not prepared, or the copy is damaged or has other classes.
    """
    try:
        copy = data.locate()
        _check(data, copy, slices)
    except DataMissingError:
        if not assume(data.name):
            raise
        return _sized(data, slices, classes)
    task = PreparedTask(data, copy, slices, label)
    task.class_names = _names(data, copy, classes, label)
    task.rules, task.flip, task.crop = rules, flip, crop
    return task


def _sized(data: DataSet, slices: Slices, classes: int | Sequence[str]) -> Task:
    """The task by the reference's sizes, of data that are not here."""
    parts = {"train": slices.train, "val": slices.val, "test": slices.test, "shots": slices.shots}
    first = {"shots": slices.shots_first}
    found = {}
    for name, part in parts.items():
        start, stop = part.bounds(data.sizes, first.get(name))
        found[name] = (f"{data.name}/{part.spec(data.sizes, first.get(name))}", stop - start)
    names = tuple(map(str, range(classes))) if isinstance(classes, int) else tuple(classes)
    return SizedTask(names, found)


class PreparedTask(Task):
    """Slices of one prepared copy of a data set."""

    random_order = True

    def __init__(self, data: DataSet, copy: Prepared, slices: Slices, label: str) -> None:
        self.data, self.copy, self.slices, self.label = data, copy, slices, label
        self.version = ".".join(map(str, copy.version))
        self._read = cache(self._sliced)

    def train(self) -> Split:
        """The slice that is trained on."""
        return self._read(self.slices.train)

    def val(self) -> Split:
        """The slice that selection is made on."""
        return self._read(self.slices.val)

    def test(self) -> Split:
        """The slice that is scored."""
        return self._read(self.slices.test)

    def shots(self) -> Split:
        """The slice that N-shot budgets draw from, in TFDS's reading order."""
        split = self._read(self.slices.shots, self.slices.shots_first)
        return split.take(split.source.reading_order()) if isinstance(split.source, RecordSource) else split

    def first(self, part: Part, n: int) -> Split:
        """The first n examples of train or val; no other label is read."""
        return self._read(self.slices.train if part == "train" else self.slices.val, n)

    def departures(self) -> tuple[str, ...]:
        """Splits that do not have the reference's number of examples, other label names, and images that were re-encoded."""
        names = self.data.names and names_digest(class_names(self.copy, self.label))
        other = f"{self.data.name} has other label names, or in another order, than TFDS's builder states"
        lossy = reencoded(self.data.name, self._first_image())
        found = [*departures(self.data, self.copy), other if names != self.data.names else "", lossy]
        return tuple(filter(None, found))

    def _first_image(self) -> bytes:
        """The first training image as it is stored; b'' if it cannot be read, which the job will say."""
        with contextlib.suppress(VitbenchError):
            source = source_of(self.data, self.copy, self.slices.train.spec(self.copy.sizes))
            return source.examples([0], lambda example: example.data(self.data.image))[0]
        return b""

    def _sliced(self, part: Slice, first: int | None = None) -> Split:
        split = labelled(source_of(self.data, self.copy, part.spec(self.copy.sizes, first)), self.label)
        return _within(self.data, split, len(self.class_names))


def _within(data: DataSet, split: Split, classes: int) -> Split:
    if len(split) and not (split.labels.min() >= 0 and split.labels.max() < classes):
        raise DataMissingError(
            f"{data.name}: labels range from {split.labels.min()} to {split.labels.max()}, the task has {classes} classes"
        )
    return split


def _names(data: DataSet, copy: Prepared, classes: int | Sequence[str], label: str) -> tuple[str, ...]:
    if not isinstance(classes, int):
        return tuple(classes)
    names = class_names(copy, label)
    if len(names) != classes:
        raise DataMissingError(
            f"{copy.path} has {len(names)} classes, the reference's {data.name} has {classes}"
        )
    return names


def _check(data: DataSet, copy: Prepared, slices: Slices) -> None:
    wanted = {part.split for part in (slices.train, slices.val, slices.test)}
    absent = sorted(wanted - set(copy.sizes))
    trouble = (
        f"{copy.path} does not have the split {absent[0]!r}, only {sorted(copy.sizes)}"
        if absent
        else broken(copy, sorted(wanted))
    )
    if trouble:
        problem = Problem(f"data set {data.name}: {trouble}", next_step=data.mended(copy.path))
        raise DataMissingError(problem, [data.name])


def departures(data: DataSet, copy: Prepared) -> tuple[str, ...]:
    """How the split sizes of a prepared copy differ from the reference's, one sentence each."""
    found = []
    for split, wanted in data.sizes.items():
        n = copy.sizes.get(split, 0)
        known = data.also.get(split, (wanted, ""))[0]
        if n not in (wanted, known):
            found.append(f"{data.name} {split} has {n:,} examples, the reference {wanted:,}")
    return tuple(found)


def held_out(percent: int, test: str = "test", shots_first: int | None = None) -> Slices:
    """The last `percent` of train are val; shots are drawn from all of train."""
    cut = 100 - percent
    return Slices(Slice("train", 0, cut), Slice("train", cut), Slice(test), Slice("train"), shots_first)


def official() -> Slices:
    """The data set's own train, validation and test splits; shots are drawn from train (docs/protocols.md#vtab-splits)."""
    return Slices(Slice("train"), Slice("validation"), Slice("test"), Slice("train"))


def carved(train: int, val: int, of: int = 100) -> Slices:
    """Train and val are cut from the start of the only split, `train`; the rest is test (docs/protocols.md#vtab-splits)."""
    seen = train + val
    return Slices(
        Slice("train", 0, train, of),
        Slice("train", train, seen, of),
        Slice("train", seen, of, of),
        Slice("train", 0, seen, of),
    )
