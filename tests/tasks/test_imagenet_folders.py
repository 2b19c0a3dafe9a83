"""ImageNet in class folders, with the validation images in class folders or in one flat folder."""

import numpy as np
import pytest
from PIL import Image

import vitbench
from vitbench.core.errors import DataMissingError
from vitbench.data.tfds.order import stored_order
from vitbench.tasks.imagenet import imagenet, validation_labels, wordnet_ids


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Two training images of each of the 1,000 classes, and 60 validation images, flat."""
    root = tmp_path_factory.mktemp("imagenet")
    image = Image.new("RGB", (6, 5), (9, 90, 200))
    for wnid in wordnet_ids():
        (root / "train" / wnid).mkdir(parents=True)
        for i in range(2):
            image.save(root / "train" / wnid / f"{wnid}_{i}.JPEG")
    (root / "val").mkdir()
    for number in range(1, 61):
        image.save(root / "val" / f"ILSVRC2012_val_{number:08d}.JPEG")
    return root


def test_train_is_in_tfds_order_whatever_the_file_system_says(tree):
    task = imagenet(tree)
    keys = [f"{wnid}_{i}.JPEG" for wnid in wordnet_ids() for i in range(2)]
    order = stored_order("train", keys)
    train, val = task.train(), task.val()
    assert (len(train), len(val)) == (1980, 20)
    found = [split.source.name(int(i)).rpartition("/")[2] for split in (train, val) for i in split.indices]
    assert found == order
    labels = np.concatenate([train.labels, val.labels])
    assert [wordnet_ids()[label] for label in labels] == [key.partition("_")[0] for key in order]


def test_the_flat_validation_folder_has_the_devkits_labels(tree):
    test = imagenet(tree).test()
    assert test.labels.tolist() == validation_labels()[:60].tolist()
    assert test.source.name(0) == "val/ILSVRC2012_val_00000001.JPEG"


def test_class_folders_of_validation_images_are_the_same_task(tree, tmp_path):
    (tmp_path / "train").symlink_to(tree / "train")
    for number, label in zip(range(1, 61), validation_labels(), strict=False):
        folder = tmp_path / "val" / wordnet_ids()[label]
        folder.mkdir(parents=True, exist_ok=True)
        name = f"ILSVRC2012_val_{number:08d}.JPEG"
        (folder / name).symlink_to(tree / "val" / name)
    flat, nested = imagenet(tree).test(), imagenet(tmp_path).test()
    assert flat.labels.tolist() == nested.labels.tolist()
    assert [flat.source.name(i)[-28:] for i in range(60)] == [nested.source.name(i)[-28:] for i in range(60)]


def test_it_runs_with_both_metrics(tree, tmp_path, suite_file):
    suite = suite_file(
        "name: i\nbudgets: [1-shot]\nbackbones: [{name: raw_pixels, size_px: 4}]\nprotocols: [ridge_probe]\n"
        f"tasks: [{{name: mine, source: imagenet, path: {tree}}}]\n"
    )
    (record,) = vitbench.run(suite, tmp_path / "run")
    assert record.failure is None
    assert record.metrics["top1"].n == 60
    assert 50 < record.metrics["real"].n < 60
    assert record.data.departures == (
        "imagenet train has 2,000 examples, the reference 1,281,167",
        "imagenet validation has 60 examples, the reference 50,000",
    )


def test_other_folders_are_refused(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "train" / name).mkdir(parents=True)
    with pytest.raises(DataMissingError, match="does not hold ImageNet's 1000 class folders: 1002 differ"):
        imagenet(tmp_path)


def test_a_few_shot_draw_reads_only_its_own_files(tree):
    task = imagenet(tree)
    assert len(task.first("train", 800).source) == 800
    assert len(task.val().source) == 20


def test_a_missing_validation_folder_is_missing_data(tree, tmp_path):
    (tmp_path / "train").symlink_to(tree / "train")
    with pytest.raises(DataMissingError, match="does not exist: ImageNet is scored"):
        imagenet(tmp_path)
