"""Grey images of more than 8 bits: one rule for a whole task, and a word where their values make it implausible."""

import numpy as np
import pytest
from PIL import Image

import vitbench
from vitbench.core.registry import TASKS
from vitbench.data.decode import FORMATS, NOT_OFFERED, SUFFIXES, decode

SUITE = """\
name: wide
budgets: [full]
backbones: [{{name: raw_pixels, size_px: 8}}]
tasks: [{{name: mine, source: folder, path: '{path}'{option}}}]
protocols: [ridge_probe]
"""


def encoded(array, path, **options):
    Image.fromarray(array).save(path, **options)
    return path.read_bytes()


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm", "jp2"])
@pytest.mark.parametrize("highest", [200, 236, 300, 5000, 65535])
def test_a_value_means_the_same_in_every_image(tmp_path, suffix, highest):
    """Whatever else is in the image: 65,535 is white, as TensorFlow reads 16-bit PNGs."""
    values = np.full((16, 16), 236, np.uint16)
    values[0, 0] = highest
    options = {"irreversible": False} if suffix == "jp2" else {}
    data = encoded(values, tmp_path / f"x.{suffix}", **options)
    pixels = decode(data, exif_rotate=False)
    assert pixels[5, 5].tolist() == [0, 0, 0]
    assert pixels[0, 0, 0] == highest >> 8
    assert decode(data, exif_rotate=False, white=255)[5, 5, 0] == 236
    assert decode(data, exif_rotate=False, white=255)[0, 0, 0] == min(highest, 255)


def test_signed_and_32_bit_integers(tmp_path):
    data = encoded(np.array([[-5, 0, 4095], [65535, 70000, 2**31 - 1]], np.int32), tmp_path / "x.tif")
    assert decode(data, exif_rotate=False)[..., 0].tolist() == [[0, 0, 15], [255, 255, 255]]
    assert decode(data, exif_rotate=False, white=4095)[0, :, 0].tolist() == [0, 0, 255]


def test_floats_are_between_black_0_and_white_1(tmp_path):
    values = np.array([[-1, 0, 0.5, 1], [2, np.nan, 0.25, 200]], np.float32)
    data = encoded(values, tmp_path / "x.tif")
    assert decode(data, exif_rotate=False)[..., 0].tolist() == [[0, 0, 128, 255], [255, 0, 64, 255]]
    assert decode(data, exif_rotate=False, white=200)[..., 0].tolist() == [[0, 0, 1, 1], [3, 0, 0, 255]]


@pytest.fixture
def folder(tmp_path):
    def make(values, name):
        for split in ("train", "test"):
            for label in ("a", "b"):
                (tmp_path / "images" / split / label).mkdir(parents=True, exist_ok=True)
                for i in range(12):
                    rng = np.random.default_rng([i, split == "test", label == "a"])
                    Image.fromarray(values(rng)).save(tmp_path / "images" / split / label / f"{i}.{name}")
        return tmp_path / "images"

    return make


CASES = {
    "12 bits": (lambda rng: rng.integers(0, 4000, (9, 9)).astype(np.uint16), "png", "no value exceeds 39", "65535 is"),
    "8 bits in 16": (lambda rng: rng.integers(0, 236, (9, 9)).astype(np.uint16), "tif", "no value exceeds 235", "65535 is"),
    "floats to 255": (lambda rng: rng.uniform(0, 255, (9, 9)).astype(np.float32), "tif", "values go up to 25", "1 is"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_rule_and_an_implausible_white_are_said_before_training_and_in_the_record(
    folder, case, suite_file, tmp_path, capsys
):
    values, suffix, doubt, rule = CASES[case]
    path = folder(values, suffix)
    (record,) = vitbench.run(suite_file(SUITE.format(path=path, option="")), tmp_path / "run")
    (note,) = [note for note in record.notes if "is white" in note]
    assert rule in note
    assert doubt in note
    white = 255 if case != "12 bits" else 4095
    (record,) = vitbench.run(
        suite_file(SUITE.format(path=path, option=f", white: {white}")), tmp_path / "run2"
    )
    (note,) = [note for note in record.notes if "is white" in note]
    assert note.endswith(f"{white} is white")


def test_plain_images_have_no_remark(folder):
    path = folder(lambda rng: rng.integers(0, 256, (9, 9, 3)).astype(np.uint8), "png")
    (cut,) = TASKS.make("folder", {"path": path})[1].remarks()
    assert cut.startswith("images of train were set apart")


def test_all_that_pillow_reads_is_offered_or_refused_by_name():
    """A new version of Pillow with a new format fails here, so that somebody decides."""
    Image.init()
    by_format = {}
    for suffix, name in Image.registered_extensions().items():
        by_format.setdefault(name, set()).add(suffix)
    assert {name: suffixes for name, suffixes in by_format.items() if name not in NOT_OFFERED} == {
        name: set(suffixes) for name, suffixes in SUFFIXES.items()
    }
    assert not set(FORMATS) & set(NOT_OFFERED)


@pytest.mark.parametrize(
    "suffix", ["tga", "dds", "ico", "pcx", "sgi", "xbm", "msp", "qoi", "dib", "icns", "mpo", "apng"]
)
def test_rarer_formats_are_decoded(tmp_path, suffix):
    mode = "1" if suffix in ("xbm", "msp") else "RGB"
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)).convert(
        mode
    )
    try:
        image.save(tmp_path / f"x.{suffix}")
    except (OSError, KeyError, ValueError):  # Pillow reads it but does not write it
        assert suffix in ("qoi", "icns")
        return
    pixels = decode((tmp_path / f"x.{suffix}").read_bytes(), exif_rotate=False)
    assert pixels.shape[2] == 3


def test_classes_without_test_images_and_mixed_formats_are_said(folder, suite_file, tmp_path, monkeypatch):
    path = folder(lambda rng: rng.integers(0, 256, (9, 9, 3)).astype(np.uint8), "png")
    for file in (path / "test" / "b").iterdir():
        file.unlink()
    Image.new("RGB", (9, 9), (1, 2, 3)).save(path / "train/a/lossy.jpg")
    said = []
    monkeypatch.setattr("vitbench.engine.run.Progress.remark", lambda _self, text: said.append(text))
    (record,) = vitbench.run(suite_file(SUITE.format(path=path, option="")), tmp_path / "run")
    for text in ("test has no image of: b", "images are stored with and without loss: .png 36, .jpg 1"):
        assert f"task 'mine': {text}" in said
        assert text in record.notes
