import numpy as np
import pytest
from PIL import Image

from vitbench.core.errors import DataMissingError
from vitbench.data.decode import BadImageError
from vitbench.tasks.folder import folder

RNG = np.random.default_rng(0)


@pytest.fixture
def images(tmp_path):
    """Three classes of ten small images below train/."""
    for label, name in enumerate(("cat", "dog", "eel")):
        (tmp_path / "train" / name).mkdir(parents=True)
        for i in range(10):
            pixels = RNG.integers(0, 80, (5, 6, 3), dtype=np.uint8) + 80 * label
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "train" / name / f"{i}.png")
    return tmp_path


def names(split):
    return [split.source.name(i) for i in split.indices]


def test_missing_splits_are_cut_from_train(images):
    task = folder(images)
    train, val, test = task.train(), task.val(), task.test()
    assert task.class_names == ("cat", "dog", "eel")
    assert [len(split) for split in (train, val, test)] == [21, 3, 6]
    assert np.bincount(test.labels).tolist() == [2, 2, 2]
    assert len({*names(train), *names(val), *names(test)}) == 30
    for split in (train, val, test):
        for name, label in zip(names(split), split.labels, strict=True):
            assert name.split("/")[1] == task.class_names[label]


def test_no_split_can_reach_the_files_of_another(images):
    task = folder(images)
    train, test = task.train(), task.test()
    reachable = {train.source.name(i) for i in range(len(train.source))}
    assert reachable.isdisjoint(names(test))


def test_existing_split_folders_are_used(images):
    (images / "train" / "cat").rename(images / "moved")
    (images / "train" / "cat").mkdir()
    (images / "test" / "cat").mkdir(parents=True)
    (images / "test" / "dog").mkdir()
    for i, file in enumerate(sorted((images / "moved").iterdir())):
        file.rename(images / ("test" if i < 4 else "train") / "cat" / file.name)
    task = folder(images)
    assert set(names(task.test())) == {f"test/cat/{i}.png" for i in range(4)}
    assert len(task.train()) + len(task.val()) == 26


def test_a_broken_image_is_named_and_counted(images):
    (images / "train" / "dog" / "3.png").write_bytes(b"nonsense")
    task = folder(images)
    split = next(s for s in (task.train(), task.val(), task.test()) if "train/dog/3.png" in names(s))
    with pytest.raises(
        BadImageError,
        match=r"1 of \d+ images cannot be decoded: train/dog/3.png \(not an image\).*on_bad_image: skip",
    ):
        split.source.read(range(len(split.source)))


def test_skipped_images_are_left_out_and_listed(images):
    (images / "train" / "dog" / "3.png").write_bytes(b"nonsense")
    task = folder(images, on_bad_image="skip")
    everything = [*names(task.train()), *names(task.val()), *names(task.test())]
    assert len(everything) == 29
    assert "train/dog/3.png" not in everything
    assert task.skipped() == ("train/dog/3.png",)


def test_the_fingerprint_follows_the_pixels(images):
    first = folder(images).train().source.fingerprint
    assert folder(images).train().source.fingerprint == first
    path = images / folder(images).train().source.name(0)
    Image.fromarray(np.zeros((5, 6, 3), np.uint8)).save(path)
    assert folder(images).train().source.fingerprint != first
    assert (
        folder(images, exif_rotate=False).train().source.fingerprint
        != folder(images).train().source.fingerprint
    )


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: (root / "train").rename(root / "trian"), "there is no folder"),
        (
            lambda root: [(root / "train" / n).rename(root / n) for n in ("cat", "dog")],
            "holds 1 class folder",
        ),
        (lambda root: [f.unlink() for f in (root / "train" / "cat").iterdir()], "contains no images"),
        (
            lambda root: [(root / "test" / n).mkdir(parents=True) for n in ("cat", "fox")],
            "classes that train does not have",
        ),
    ],
)
def test_a_wrong_folder_layout_is_explained(images, spoil, message):
    spoil(images)
    with pytest.raises(DataMissingError, match=message):
        folder(images).train()
