"""Images that are equal in two splits, by bytes or by pixels, are counted, noted, and cost a row its conformance."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

import vitbench
from tests.making.command import vitbench as command
from vitbench.core.registry import TASKS
from vitbench.data import duplicates as module
from vitbench.data import pixel_digests
from vitbench.data.arrays import array_split
from vitbench.data.duplicates import duplicates, equal_images, equal_within
from vitbench.data.image_folder import FolderSource

SUITE = """\
name: doubles
budgets: [full, 2-shot]
backbones: [{{name: raw_pixels, size_px: 8}}]
tasks: [{{name: mine, source: folder, path: '{path}'}}]
protocols: [ridge_probe]
"""


@pytest.fixture
def folder(tmp_path):
    """Two classes in three splits, 8 images each, all different, as PNG."""
    rng = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for label in ("cat", "dog"):
            (tmp_path / "images" / split / label).mkdir(parents=True)
            for i in range(8):
                pixels = rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "images" / split / label / f"{i}.png")
    return tmp_path / "images"


def counted(folder):
    _, task = TASKS.make("folder", {"path": folder})
    found = duplicates({"train": task.train(), "val": task.val(), "test": task.test()})
    return found.test_in_train, found.test_in_val, found.val_in_train


def copied(path):
    shutil.copy(path / "train/cat/3.png", path / "test/cat/other name.png")


def as_bmp(path):
    Image.open(path / "train/cat/3.png").save(path / "test/cat/3 again.bmp")


def with_metadata(path):
    Image.open(path / "train/cat/3.png").save(path / "test/cat/m.png", dpi=(300, 300), compress_level=1)


def rotated_by_exif(path):
    """Stored turned, with a tag that turns it back."""
    image = Image.open(path / "train/cat/3.png").transpose(Image.Transpose.ROTATE_180)
    exif = Image.Exif()
    exif[0x0112] = 3
    image.save(path / "test/dog/r.png", exif=exif)


def linked(path):
    (path / "test/cat/linked").symlink_to(path / "train/dog")


@pytest.mark.parametrize(
    ("make", "n"), [(copied, 1), (as_bmp, 1), (with_metadata, 1), (rotated_by_exif, 1), (linked, 8)]
)
def test_a_test_image_that_is_a_training_image_is_found(folder, make, n):
    assert counted(folder) == (0, 0, 0)
    make(folder)
    assert counted(folder) == (n, 0, 0)


def test_validation_images_count_on_their_own(folder):
    shutil.copy(folder / "val/cat/0.png", folder / "test/cat/v.png")
    shutil.copy(folder / "val/cat/0.png", folder / "test/dog/v.png")
    shutil.copy(folder / "train/cat/0.png", folder / "val/dog/t.png")
    assert counted(folder) == (0, 2, 1)


def test_copies_that_an_editor_left_are_no_images(folder):
    (folder / "test/cat/.ipynb_checkpoints").mkdir()
    shutil.copy(folder / "train/cat/3.png", folder / "test/cat/.ipynb_checkpoints/3-checkpoint.png")
    assert counted(folder) == (0, 0, 0)


def test_the_record_counts_names_notes_and_does_not_conform(folder, suite_file, tmp_path):
    copied(folder)
    suite = suite_file(SUITE.format(path=folder))
    full, few = vitbench.run(suite, tmp_path / "run")
    assert full.data.duplicates.test_in_train == 1
    assert full.data.duplicates.examples == (("test/cat/other name.png", "train/cat/3.png"),)
    assert any("1 test images are training images" in note for note in full.notes)
    (item,) = [check for check in full.conformance if check.item == "no image in two splits"]
    assert (item.ok, "other name.png = train/cat/3.png" in item.reason) == (False, True)
    drawn = few.data.duplicates.test_in_train  # of the 2-shot draw's images only
    assert drawn in (0, 1)
    page = command("report", tmp_path / "run", "-o", tmp_path / "page.html")
    assert page.returncode == 0
    assert "1 test images are training images" in (tmp_path / "page.html").read_text()


def test_a_second_job_finds_the_same_from_its_caches(folder, suite_file, tmp_path, monkeypatch):
    copied(folder)
    suite = suite_file(SUITE.format(path=folder))
    first = vitbench.run(suite, tmp_path / "one")
    monkeypatch.setattr(module, "_held", {})
    again = vitbench.run(suite, tmp_path / "two")
    assert [r.data.duplicates for r in first] == [r.data.duplicates for r in again]
    assert [r.notes for r in first] == [r.notes for r in again]


@pytest.fixture
def decoded(monkeypatch):
    """The files of folder tasks that are decoded, in order, with no digest known from before."""
    monkeypatch.setattr(module, "_held", {})
    monkeypatch.setattr(pixel_digests, "_seen", {})
    names, read = [], FolderSource.read

    def counting(self, indices, **how):
        names.extend(self.name(index) for index in indices)
        return read(self, indices, **how)

    monkeypatch.setattr(FolderSource, "read", counting)
    return names


@pytest.fixture
def photographs(folder):
    """The same splits as JPEGs, with one that is compressed as a BMP again."""
    for path in sorted(folder.rglob("*.png")):
        Image.open(path).resize((160, 140)).save(path.with_suffix(".jpg"), quality=90)
        path.unlink()
    Image.open(folder / "train/cat/3.jpg").save(folder / "test/cat/3 again.bmp")
    return folder


@pytest.mark.parametrize(
    ("preset", "times"),
    [("timm_eval", 1), ("squash", 2)],
    ids=["accurately decoded, once", "decoded by the fast DCT, whose pixels are others"],
)
def test_images_that_a_job_has_loaded_are_not_decoded_again(
    photographs, suite_file, tmp_path, decoded, preset, times
):
    backbone = "{name: 'timm:test_vit', pretrained: false}"
    text = SUITE.format(path=photographs).replace("{name: raw_pixels, size_px: 8}", backbone)
    suite = suite_file(text.replace("full, 2-shot", "full") + f"preprocess: {preset}\n")
    (record,) = vitbench.run(suite, tmp_path / "run", dtype="float32")
    assert record.data.duplicates.test_in_train == 1
    assert record.data.duplicates.examples == (("test/cat/3 again.bmp", "train/cat/3.jpg"),)
    read = [name for name in decoded if name.startswith(("train", "test"))]
    assert len(read) == times * len(set(read)) == times * 33


def test_digests_of_many_images_are_cached_on_disk(monkeypatch):
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (module.CACHED_FROM + 5, 4, 4, 3), dtype=np.uint8)
    images[7] = images[3]
    train, test = (
        array_split(images[part], np.zeros(len(images[part])), "x") for part in (slice(None), slice(3, 9))
    )
    wanted = [("test", 0, "train", 3), ("test", 1, "train", 4), ("test", 2, "train", 5), ("test", 3, "train", 6),
              ("test", 4, "train", 3), ("test", 5, "train", 8)]  # fmt: skip
    decode = module._decoded
    for decoder in (decode, lambda split: decode(split) if split is test else pytest.fail("decoded again")):
        monkeypatch.setattr(module, "_held", {})
        monkeypatch.setattr(module, "_decoded", decoder)
        found = list(equal_images({"train": train, "test": test}))
        assert [(p.split, p.position, p.other, p.other_position) for p in found] == wanted
    assert list(equal_within(train)) == [(3, 7)]


def test_pixels_of_many_files_are_not_decoded_again(folder, monkeypatch):
    """Their digests are known; equal files are still found, and the record says what was compared."""
    copied(folder)
    as_bmp(folder)
    _, task = TASKS.make("folder", {"path": folder})
    splits = {"train": task.train(), "val": task.val(), "test": task.test()}
    assert duplicates(splits).compared == "pixels"
    assert duplicates(splits).test_in_train == 2
    monkeypatch.setattr(module, "DECODED_UP_TO", 10)
    assert duplicates(splits).compared == "files"
    assert duplicates(splits).test_in_train == 1


def test_prepared_data_are_compared_by_what_is_stored(data_dir, tmp_path, monkeypatch):
    from tests.making import miniatures

    image, kept = miniatures.encoded_image, {}
    monkeypatch.setattr(
        miniatures,
        "encoded_image",
        lambda name, rng, i: kept.setdefault(i, image(name, rng, i)) if i < 3 else image(name, rng, i),
    )
    miniatures.prepare("dtd", tmp_path / "data")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "data"))
    _, task = TASKS.make("vtab/dtd", {})
    found = duplicates({"train": task.train(), "val": task.val(), "test": task.test()})
    assert found.compared == "files"
    assert (found.test_in_train, found.test_in_val, found.val_in_train) == (3, 3, 3)
    rows = json.loads(command("data", "verify", "dtd", "--json").stdout)
    assert {row["what"]: row["text"] for row in rows}["test in train"] == "3 images are in both"


def test_verify_lists_what_is_equal_and_what_is_not_read(folder):
    copied(folder)
    shutil.copy(folder / "train/cat/5.png", folder / "train/dog/5 again.png")
    (folder / "train/dog/notes.xyz").write_text("?")
    done = command("data", "verify", folder)
    assert done.returncode == 1
    assert "test in train: test/cat/other name.png = train/cat/3.png" in done.stdout
    assert "two labels in train: train/cat/5.png = train/dog/5 again.png" in done.stdout
    assert ".xyz 1" in done.stdout
    (folder / "train/dog/notes.xyz").unlink()
    (folder / "train/dog/5 again.png").unlink()
    (folder / "test/cat/other name.png").unlink()
    done = command("data", "verify", folder)
    assert done.returncode == 0
    assert "no image is in two splits" in done.stdout


def test_many_threads_keep_digests_of_more_sources_than_are_held():
    images = np.random.default_rng(2).integers(0, 256, (64, 4, 4, 3), dtype=np.uint8)
    parts = [
        array_split(images + np.uint8(i), np.zeros(64), "x") for i in range(4 * pixel_digests.SOURCES_HELD)
    ]
    keepers = [pixel_digests.keeper(part) for part in parts]
    work = [(keep, part, index) for keep, part in zip(keepers, parts, strict=True) for index in range(64)]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda each: each[0]([each[2]], each[1].source.read([each[2]])), work))
    assert len(pixel_digests._seen) <= pixel_digests.SOURCES_HELD
    known = pixel_digests.seen(parts[-1])
    assert known
    assert all(
        digest == pixel_digests.digest(parts[-1].source.read([index])[0]) for index, digest in known.items()
    )
