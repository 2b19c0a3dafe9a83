import numpy as np
import pytest

from vitbench.api import Task
from vitbench.core.errors import UsageError
from vitbench.data.arrays import array_split, stratified_parts
from vitbench.data.budgets import draw_shots, labelled_data, thinned

RNG = np.random.default_rng(3)
LABELS = RNG.integers(0, 5, 200)


def make_task(n_train=1000, n_val=300):
    def split(n):
        return array_split(np.zeros((n, 2, 2, 3), np.uint8), np.arange(n) % 3, "x")

    train, val = split(n_train), split(n_val)
    return Task.of(("a", "b", "c"), lambda: (train, val, val))


def in_random_order(n_train=1000, n_val=300):
    task = make_task(n_train, n_val)
    task.random_order = True
    return task


def test_shots_are_drawn_as_in_the_reference():
    generator = np.random.default_rng(1)
    wanted = np.concatenate([generator.permutation(np.flatnonzero(LABELS == c))[:4] for c in range(5)])
    assert np.array_equal(draw_shots(LABELS, 4, 1), wanted)


def test_shots_are_nested_balanced_and_seeded():
    small, large = (draw_shots(LABELS, n, 0) for n in (3, 7))
    assert set(small) <= set(large)
    assert np.bincount(LABELS[large]).tolist() == [7] * 5
    assert set(draw_shots(LABELS, 7, 1)) != set(large)


def test_a_class_with_too_few_examples_contributes_all_and_is_noted():
    task = make_task(4, 3)
    data = labelled_data(task, "5-shot", 0, None)
    assert len(data.train) == 4
    assert data.remarks == ("3 of 3 classes have fewer than 5 training examples",)
    assert len(data.val) == 0


def test_1k_is_the_first_800_and_200_of_data_in_random_order():
    data = labelled_data(in_random_order(), "1k", 0, None)
    assert data.train.indices.tolist() == list(range(800))
    assert data.val.indices.tolist() == list(range(200))
    with pytest.raises(UsageError, match="this task has 50 and 200"):
        labelled_data(in_random_order(50), "1k", 0, None)
    with pytest.raises(UsageError, match="this task has 50 and 300"):
        labelled_data(make_task(50), "1k", 0, None)


def test_1k_of_sorted_data_draws_from_every_class_and_notes_absent_ones():
    labels = np.repeat(np.arange(10), 150)
    split = array_split(np.zeros((1500, 1, 1, 3), np.uint8), labels, "sorted")
    task = Task.of(tuple("0123456789a"), lambda: (split, split, split))
    data = labelled_data(task, "1k", 0, None)
    assert np.bincount(data.train.labels).min() > 50
    assert np.array_equal(labelled_data(task, "1k", 7, None).train.indices, data.train.indices)
    assert data.remarks == ("1 of 11 classes have no training example in the 1k draw",)


def test_a_protocol_cannot_change_the_splits_of_the_task():
    task = make_task()
    labelled_data(task, "full", 0, None).train.labels[:] = 2
    assert set(task.train().labels) == {0, 1, 2}


def test_a_limit_keeps_every_class_of_sorted_data():
    split = array_split(np.zeros((100, 2, 2, 3), np.uint8), np.repeat(np.arange(10), 10), "sorted")
    limited = thinned(split, 20)
    assert np.bincount(limited.labels).tolist() == [2] * 10
    assert thinned(split, None) is split


def test_parts_are_disjoint_complete_and_stratified():
    parts = stratified_parts(LABELS, (0.2, 0.1), 0)
    assert sorted(np.concatenate(parts)) == list(range(200))
    shares = np.stack([np.bincount(LABELS[part], minlength=5) / np.bincount(LABELS) for part in parts])
    assert np.abs(shares - np.array([[0.7], [0.2], [0.1]])).max() < 0.02
    assert all(
        np.array_equal(a, b) for a, b in zip(parts, stratified_parts(LABELS, (0.2, 0.1), 0), strict=True)
    )
    assert not np.array_equal(parts[1], stratified_parts(LABELS, (0.2, 0.1), 1)[1])


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_a_tiny_class_goes_to_train_before_test(n):
    sizes = [len(part) for part in stratified_parts(np.zeros(n, int), (0.1, 0.2), 0)]
    assert sum(sizes) == n
    assert sizes[0] >= 1
    assert (sizes[2] >= 1) == (n >= 2)
