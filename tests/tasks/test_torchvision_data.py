"""torchvision's data sets on disk: labels, images and classes are those that torchvision itself gives, whatever keeps them."""

import struct

import numpy as np
import pytest
import torchvision.datasets as reference
from PIL import Image

import vitbench
from tests.making.command import vitbench as command
from vitbench.core.errors import DataMissingError, UsageError
from vitbench.core.registry import TASKS
from vitbench.tasks.torchvision_data import torchvision


def pixels(i):
    return np.random.default_rng(i).integers(0, 256, (11 + i % 3, 13, 3), dtype=np.uint8)


def write_image(path, i):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(i)).save(path, quality=95)


def write_idx(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack(">BBBB", 0, 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(header + array.tobytes())


def mnist(root, folder="MNIST", prefix=""):
    rng = np.random.default_rng(0)
    for split, n in (("train", 60), ("t10k" if not prefix else "test", 30)):
        raw = root / folder / "raw"
        write_idx(
            raw / f"{prefix}{split}-images-idx3-ubyte", rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        )
        write_idx(raw / f"{prefix}{split}-labels-idx1-ubyte", np.arange(n, dtype=np.uint8) % 10)


def emnist(root):
    for split in ("byclass", "bymerge", "balanced", "letters", "digits", "mnist"):
        mnist(root, "EMNIST", f"emnist-{split}-")


def dtd(root):
    base = root / "dtd" / "dtd"
    names = [f"{kind}/{kind}_{i}.jpg" for kind in ("dotted", "banded") for i in range(9)]
    for i, name in enumerate(names):
        write_image(base / "images" / name, i)
    (base / "labels").mkdir(parents=True)
    for k, split in enumerate(("train", "val", "test")):
        (base / "labels" / f"{split}1.txt").write_text("\n".join(names[k::3]))


def pets(root):
    base = root / "oxford-iiit-pet"
    (base / "annotations").mkdir(parents=True)
    for split, start in (("trainval", 0), ("test", 20)):
        lines = []
        for i in range(start, start + 10):
            name = f"{('Abyssinian', 'pug')[i % 2]}_{i}"
            write_image(base / "images" / f"{name}.jpg", i)
            lines.append(f"{name} {i % 2 + 1} {i % 2 + 1} 1")
        (base / "annotations" / f"{split}.txt").write_text("\n".join(lines) + "\n")


def eurosat(root):
    for k, kind in enumerate(("Forest", "River", "Sea")):
        for i in range(8):
            write_image(root / "eurosat" / "2750" / kind / f"{i}.jpg", 10 * k + i)


def imagenette(root):
    for split in ("train", "val"):
        for k, kind in enumerate(("n01440764", "n02102040")):
            for i in range(6):
                write_image(
                    root / "imagenette2" / split / kind / f"{i}.JPEG", 10 * k + i + 50 * (split == "val")
                )


# By class: what writes it, torchvision's arguments of train, val and test where it has them, and options.
CASES = {
    "MNIST": (mnist, ({"train": True}, None, {"train": False}), {}),
    "EMNIST": (emnist, ({"split": "balanced", "train": True}, None, {"split": "balanced", "train": False}),
               {"options": {"split": "balanced"}}),
    "DTD": (dtd, ({"split": "train"}, {"split": "val"}, {"split": "test"}), {}),
    "OxfordIIITPet": (pets, ({"split": "trainval"}, None, {"split": "test"}), {}),
    "EuroSAT": (eurosat, ({}, None, None), {}),
    "Imagenette": (imagenette, ({"split": "train"}, None, {"split": "val"}), {"test": "val"}),
}  # fmt: skip


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VITBENCH_CACHE", str(tmp_path / "cache"))


def listed(split):
    images = split.source.read(split.indices.tolist())
    return [(image.tobytes(), int(label)) for image, label in zip(images, split.labels, strict=True)]


def given(name, root, arguments):
    opened = getattr(reference, name)(str(root), **arguments)
    return [(np.array(image.convert("RGB")).tobytes(), int(label)) for image, label in opened], opened


@pytest.mark.parametrize("name", CASES)
def test_images_and_labels_are_torchvisions(tmp_path, name):
    write, wanted, how = CASES[name]
    write(tmp_path)
    task = torchvision(name, tmp_path, **how)
    found = {split: listed(getattr(task, split)()) for split in ("train", "val", "test")}
    train, opened = given(name, tmp_path, wanted[0])
    cut = [split for split, arguments in zip(("val", "test"), wanted[1:], strict=True) if arguments is None]
    assert sorted(found["train"] + [each for split in cut for each in found[split]]) == sorted(train)
    for split, arguments in zip(("val", "test"), wanted[1:], strict=True):
        if arguments is not None:
            assert found[split] == given(name, tmp_path, arguments)[0]
    assert len(task.class_names) == len(opened.classes)
    said = " ".join(task.remarks())
    assert all(f"{split} (" in said for split in cut)


def test_the_key_follows_the_images_and_not_the_rest_of_the_folder(tmp_path):
    dtd(tmp_path)
    entry = TASKS.get("torchvision")[0]
    options = {"path": "DTD", "root": tmp_path}
    before = entry.content(options)
    (tmp_path / "another data set").write_text("of many")
    assert entry.content(options) == before
    write_image(tmp_path / "dtd" / "dtd" / "images" / "dotted" / "dotted_3.jpg", 99)
    assert entry.content(options) != before


def test_what_is_wrong_is_said(tmp_path):
    with pytest.raises(UsageError, match=r"'OxfordPets'(.|\n)*OxfordIIITPet"):
        torchvision("OxfordPets", tmp_path)
    with pytest.raises(DataMissingError, match=r"MNIST is not in .*: Dataset not found(.|\n)*download=True"):
        torchvision("MNIST", tmp_path)
    emnist(tmp_path)
    with pytest.raises(UsageError, match=r"'spilt'(.|\n)*split"):
        torchvision("EMNIST", tmp_path, {"spilt": "letters"})
    with pytest.raises(UsageError, match="'download'"):
        torchvision("EMNIST", tmp_path, {"split": "letters", "download": True})
    with pytest.raises(UsageError, match="'FakeData'"):
        torchvision("FakeData", tmp_path)
    (tmp_path / "MovingMNIST").mkdir()
    np.save(tmp_path / "MovingMNIST" / "mnist_test_seq.npy", np.zeros((20, 4, 64, 64), np.uint8))
    with pytest.raises(UsageError, match="no class for each image"):
        torchvision("MovingMNIST", tmp_path)
    (tmp_path / "EMNIST" / "raw" / "emnist-letters-test-labels-idx1-ubyte").unlink()
    with pytest.raises(DataMissingError, match="EMNIST is not in"):
        torchvision("EMNIST", tmp_path, {"split": "letters"})


def test_one_line_on_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mnist(tmp_path / "data")
    how = (
        "--backbone",
        "raw_pixels,size_px=8",
        "--protocol",
        "knn,k=1",
        "--budget",
        "full",
        "--out",
        "runs/x",
    )
    said = command("run", "quickstart", *how, "--task", "torchvision:MNIST,root=data")
    assert said.returncode == 0, said.stderr
    (record,) = vitbench.load_records("runs/x")
    assert record.job.task.label == "MNIST"
    assert record.data.n_test == 30
