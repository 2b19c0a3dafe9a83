import os
import shutil

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


def test_linked_folders_and_nested_links_are_read(images, tmp_path):
    (images / "train" / "cat").rename(tmp_path / "cats")
    (images / "train" / "cat").symlink_to(tmp_path / "cats")
    (tmp_path / "more").mkdir()
    for i in range(4):
        (tmp_path / "cats" / f"{i}.png").rename(tmp_path / "more" / f"{i}.png")
    (tmp_path / "cats" / "nested").symlink_to(tmp_path / "more")
    task = folder(images)
    assert len(task.train()) + len(task.val()) + len(task.test()) == 30


def test_what_is_no_image_file_is_no_image(images):
    os.mkfifo(images / "train/cat/zz.png")
    (images / "train/cat/000.png").mkdir()
    (images / "train/cat/.ipynb_checkpoints").mkdir()
    (images / "train/cat/.ipynb_checkpoints/0-checkpoint.png").write_bytes(b"")
    (images / "train/__MACOSX").mkdir()
    task = folder(images)
    assert task.class_names == ("cat", "dog", "eel")
    assert len(task.train()) + len(task.val()) + len(task.test()) == 30


@pytest.mark.parametrize("name", ["valid", "validation", "Val", "VALID", "dev"])
def test_split_folders_are_known_by_their_common_names(images, name):
    shutil.copytree(images / "train", images / name)
    shutil.copytree(images / "train", images / "Testing")
    task = folder(images)
    assert [len(split) for split in (task.train(), task.val(), task.test())] == [30, 30, 30]
    assert names(task.val())[0].startswith(f"{name}/cat/")


def test_two_folders_of_one_split_are_refused(images):
    for name in ("val", "validation"):
        shutil.copytree(images / "train", images / name)
    with pytest.raises(DataMissingError, match="several folders of val: val, validation"):
        folder(images)


def test_an_empty_split_is_told_before_anything_runs(images):
    (images / "test" / "cat").mkdir(parents=True)
    (images / "test" / "dog").mkdir()
    with pytest.raises(DataMissingError, match="test contains no images"):
        folder(images)


def test_files_that_may_be_images_and_are_not_read_are_counted_by_suffix(images):
    (images / "train/cat/notes.txt").write_text("x")
    assert folder(images).departures() == ()
    for name in ("1.heic", "2.heic", "scan"):
        (images / "train/dog" / name).write_bytes(b"x")
    assert folder(images).departures() == (
        "3 files in class folders are not read: .heic 2, without suffix 1",
    )


@pytest.mark.parametrize("suffix", ["jfif", "pgm", "avif", "jp2", "pnm"])
def test_every_format_that_can_be_read_is_read(images, suffix):
    image = Image.fromarray(RNG.integers(0, 255, (8, 8), dtype=np.uint8))
    kind = {"jfif": "JPEG", "pgm": "PPM", "pnm": "PPM", "avif": "AVIF", "jp2": "JPEG2000"}[suffix]
    image.save(images / "train/cat" / f"new.{suffix}", kind)
    task = folder(images)
    splits = [task.train(), task.val(), task.test()]
    (found,) = [(s, i) for s in splits for i in s.indices if s.source.name(i).endswith(suffix)]
    assert found[0].source.read([int(found[1])])[0].shape == (8, 8, 3)
