"""Label budgets: `full`, `1k` (VTAB's 800 + 200) and `N-shot`, and evenly subsampled splits for `--limit`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vitbench.api import Indices, Labels, Split, Task
from vitbench.core.conformance import TRAIN_1K, VAL_1K
from vitbench.core.errors import UsageError
from vitbench.core.job import shots_of

# A draw is extracted with its whole pool, for other shots and seeds, if the pool is small or not much larger than the draw.
POOL_ALWAYS = 8_192
POOL_SHARE = 20


@dataclass(frozen=True)
class LabelledData:
    """The labelled data of a protocol, the splits they were drawn from, and remarks where the budget could not be met."""

    train: Split
    val: Split
    pools: tuple[Split, ...] = ()
    remarks: tuple[str, ...] = ()


def draw_shots(labels: Labels, shots: int, seed: int) -> Indices:
    """Indices of `shots` examples per class, class by class, drawn as in big_vision (docs/protocols.md#n-shot-draws).

    One `default_rng(seed)` permutes the indices of each class in turn, and the first `shots` are kept: the draws of one seed
    are nested across shots. A class with fewer examples contributes all of them.
    """
    generator = np.random.default_rng(seed)
    drawn = [
        generator.permutation(np.flatnonzero(labels == value))[:shots]
        for value in range(int(labels.max(initial=-1)) + 1)
    ]
    return np.concatenate([*drawn, np.empty(0, np.int64)]).astype(np.int64)


def thinned(split: Split, limit: int | None) -> Split:
    """At most `limit` examples, evenly spaced over the split, so that data sorted by class keep all classes."""
    if limit is None or len(split) <= limit:
        return split
    return split.take(np.arange(limit) * len(split) // limit)


def labelled_data(task: Task, budget: str, seed: int, limit: int | None) -> LabelledData:
    """Copies of the training and validation data of a task under a budget.

    They are copies so that a protocol which changes them does not affect others.

    Raises:
        UsageError: the task has too few examples for `1k`.
    """
    if (shots := shots_of(budget)) is not None:
        return _few_shots(task, shots, seed, limit)
    if budget == "1k" and task.random_order and limit is None:
        return _vtab_1k(task, task.first("train", TRAIN_1K), task.first("val", VAL_1K), limited=False)
    train, val = thinned(task.train(), limit), thinned(task.val(), limit)
    if budget == "1k":
        return _vtab_1k(task, train, val, limited=limit is not None)
    return LabelledData(train.take(np.arange(len(train))), val.take(np.arange(len(val))), (train, val))


def _few_shots(task: Task, shots: int, seed: int, limit: int | None) -> LabelledData:
    drawn_from = thinned(task.shots(), limit)
    chosen = drawn_from.take(draw_shots(drawn_from.labels, shots, seed))
    pool = drawn_from.take(
        np.argsort(drawn_from.indices)
    )  # in stored order, as other budgets share its features
    counts = np.bincount(chosen.labels, minlength=len(task.class_names))
    short = int((counts < shots).sum())
    remark = f"{short} of {len(counts)} classes have fewer than {shots} training examples"
    return LabelledData(chosen, pool.take(np.empty(0, np.int64)), (pool,), (remark,) if short else ())


def _vtab_1k(task: Task, train: Split, val: Split, *, limited: bool) -> LabelledData:
    if not limited and (len(train) < TRAIN_1K or len(val) < VAL_1K):
        raise UsageError(
            f"budget 1k needs {TRAIN_1K} training and {VAL_1K} validation examples, "
            f"this task has {len(train)} and {len(val)}: use full or N-shot"
        )
    first, first_val = _first(task, train, TRAIN_1K), _first(task, val, VAL_1K)
    absent = len(task.class_names) - len(np.unique(first.labels))
    remark = f"{absent} of {len(task.class_names)} classes have no training example in the 1k draw"
    return LabelledData(first, first_val, (), (remark,) if absent else ())


def _first(task: Task, split: Split, n: int) -> Split:
    """The first n examples of a split whose order is random, else the first n of one fixed shuffle."""
    order = np.arange(len(split))
    if not task.random_order:
        order = np.random.default_rng(0).permutation(len(split))
    return split.take(order[:n])


def read_for(split: Split, pools: Sequence[Split]) -> Split:
    """What features are extracted of for these examples: their whole pool, unless they are few of many; then they alone."""
    for pool in pools:
        fits = len(pool) <= max(POOL_ALWAYS, POOL_SHARE * len(split))
        if pool.source is split.source and fits and np.isin(split.indices, pool.indices).all():
            return pool
    order = np.unique(split.indices)
    return Split(split.source, order, np.zeros(len(order), dtype=np.int64))
