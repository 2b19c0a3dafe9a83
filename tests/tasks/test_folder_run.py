"""A folder of images in all encodings, from files to the report."""

import os

import numpy as np
import pytest
from PIL import Image

import vitbench
from vitbench.core.errors import DataMissingError, UsageError
from vitbench.report.page import render

RNG = np.random.default_rng(0)
SUITE = """\
name: zoo
preprocess: squash
backbones: [{name: raw_pixels, size_px: 8}]
tasks: [{name: zoo, source: folder, path: zoo}]
protocols: [{name: knn, k: 3}]
"""


def save(pixels, path, kind):
    image = Image.fromarray(pixels)
    if kind == "exif":
        exif = Image.Exif()
        exif[0x0112] = 8
        image.save(path.with_suffix(".jpg"), exif=exif, quality=95)
    else:
        image.convert({"grey": "L", "palette": "P", "rgba": "RGBA", "cmyk": "CMYK", "rgb": "RGB"}[kind]).save(
            path.with_suffix(".tiff" if kind == "cmyk" else ".png")
        )


@pytest.fixture
def zoo(tmp_path, suite_file):
    """Bright and dark images in every encoding; brightness is the class."""
    for name, level in (("bright one", 170), ("<dark>", 20)):
        folder = tmp_path / "zoo" / "train" / name
        folder.mkdir(parents=True)
        for i, kind in enumerate(("grey", "palette", "rgba", "exif", "cmyk", "rgb") * 5):
            pixels = (RNG.integers(0, 60, (9 + i, 14, 3)) + level).astype(np.uint8)
            save(pixels, folder / f"{kind}{i}", kind)
        (folder / "notes.txt").write_text("not an image, and not named like one")
        (folder / ".hidden.png").write_bytes(b"")
    return tmp_path / "zoo", suite_file(SUITE)


def test_every_encoding_is_read(zoo, tmp_path):
    _, suite = zoo
    (record,) = vitbench.run(suite, tmp_path / "run")
    assert record.status == "ok", record.failure
    assert record.metrics["top1"].value == 1.0
    assert record.data.n_train + record.data.n_val + record.data.n_test == 60
    departing = [check.item for check in record.conformance if check.ok is False]
    assert departing == ["protocol as its reference has it"]  # one neighbour, squashed images


def test_a_class_whose_name_is_not_utf8_is_recorded_with_its_bytes_escaped(zoo, tmp_path):
    folder, suite = zoo
    (folder / "train" / "<dark>").rename(folder / "train" / os.fsdecode(b"caf\xe9"))
    (record,) = vitbench.run(suite, tmp_path / "run")
    assert record.status == "ok", record.failure
    assert record.confusion.classes == ("bright one", r"caf\udce9")
    assert vitbench.load_records(tmp_path / "run") == [record]
    assert render([record])


def test_broken_images_stop_the_job_and_are_all_named(zoo, tmp_path, monkeypatch):
    folder, suite = zoo
    monkeypatch.setattr("vitbench.compute.batch_size.ON_CPU", 4)
    for name in ("grey0.png", "rgb5.png", "exif3.jpg"):
        for path in folder.rglob(name):
            path.write_bytes(path.read_bytes()[:30])
    (record,) = vitbench.run(suite, tmp_path / "run")
    assert record.failure.kind == "BadImageError"
    named = record.failure.message.split("decoded: ")[1].split(". Replace")[0].split("; ")
    assert record.failure.message.startswith(f"{len(named)} of ")
    assert len(named) >= 3
    assert all(".png (" in name or ".jpg (" in name for name in named)


def test_skipping_them_is_recorded_and_shown(zoo, tmp_path):
    folder, suite = zoo
    (folder / "train" / "<dark>" / "rgb5.png").write_bytes(b"nonsense")
    suite.write_text(suite.read_text().replace("path: zoo", "path: zoo, on_bad_image: skip"))
    (record,) = vitbench.run(suite, tmp_path / "run")
    assert record.status == "ok", record.failure
    assert record.data.skipped == ("train/<dark>/rgb5.png",)
    assert not record.conformant
    page = render([record])
    assert "1 unreadable image was left out" in page
    assert "train/&lt;dark&gt;/rgb5.png" in page
    assert "<dark>" not in page


def test_a_class_without_a_readable_image_is_an_error(zoo, tmp_path):
    folder, suite = zoo
    for file in (folder / "train" / "<dark>").iterdir():
        file.write_bytes(b"")
    suite.write_text(suite.read_text().replace("path: zoo", "path: zoo, on_bad_image: skip"))
    with pytest.raises(DataMissingError, match="<dark>"):
        vitbench.run(suite, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_shares_must_leave_training_images(zoo, tmp_path):
    _, suite = zoo
    suite.write_text(suite.read_text().replace("path: zoo", "path: zoo, val_share: 0.5, test_share: 0.6"))
    with pytest.raises(UsageError, match="leave no training images"):
        vitbench.run(suite, tmp_path / "run")
