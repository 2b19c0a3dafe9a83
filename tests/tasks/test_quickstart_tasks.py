import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from vitbench.core.registry import TASKS
from vitbench.store.known_tasks import MAIN_METRIC


def opened(name):
    task = TASKS.get(name)[0].build()
    return task, [task.train(), task.val(), task.test()]


@pytest.mark.parametrize(
    ("name", "sizes", "shape"),
    [("digits", [1079, 359, 359], (8, 8, 3)), ("photo_regions", [1248, 416, 416], (16, 16, 3))],
)
def test_sizes_classes_and_images(name, sizes, shape):
    task, splits = opened(name)
    assert [len(split) for split in splits] == sizes
    assert (TASKS.get(name)[0].n_test, task.rules[0].name) == (sizes[2], MAIN_METRIC)
    for split in splits:
        assert set(split.labels) == set(range(len(task.class_names)))
        assert split.source.read([0])[0].shape == shape
        assert split.source.read([0])[0].dtype == np.uint8


def test_digits_are_scikit_learns():
    _, splits = opened("digits")
    images = np.concatenate([np.stack(s.source.read(s.indices))[..., 0] for s in splits])
    wanted = np.rint(load_digits().images * 255 / 16)
    assert sorted(map(bytes, images)) == sorted(map(bytes, wanted.astype(np.uint8)))


@pytest.mark.parametrize(("name", "low", "high"), [("digits", 0.9, 0.99), ("photo_regions", 0.15, 0.6)])
def test_the_tasks_are_neither_impossible_nor_solved(name, low, high):
    _, (train, _, test) = opened(name)
    x, z = (np.stack(s.source.read(s.indices)).reshape(len(s), -1) / 255 for s in (train, test))
    score = LogisticRegression(max_iter=200, tol=1e-2).fit(x, train.labels).score(z, test.labels)
    assert low < score < high


@pytest.mark.parametrize("name", ["digits", "photo_regions"])
def test_splits_share_no_memory_and_no_source(name):
    _, (train, val, test) = opened(name)
    assert len({id(s.source) for s in (train, val, test)}) == 3
    assert train.source.images.base is None
    assert train.labels.base is None
    assert train.source.fingerprint != test.source.fingerprint
