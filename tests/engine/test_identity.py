"""Whatever a score depends on: once it has changed, the old number does not come back, in the same directory or in a new one.

The new directory has the same caches of features, decoded images, labels and digests.
"""

import dataclasses
import importlib.metadata
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import transformers
from PIL import Image

import vitbench
from tests.making.miniatures import prepare, to_tfrecord
from tests.making.npz import golden, saved, weights
from vitbench.core import libraries, plugins
from vitbench.core.registry import BACKBONES, PROTOCOLS, TASKS

PLUGIN = """
import sys; sys.path.insert(0, {folder!r})
from pathlib import Path
import torch
from torch import nn
from vitbench import register_backbone
from vitbench.api import InputSpec
from my_parts.inner import factor

@register_backbone("mine")
class Mine(nn.Module):
    input, feature_dim = InputSpec(8, (0.5,) * 3, (0.5,) * 3), 12

    def __init__(self, weights: str = "", power: int = 1):
        super().__init__()
        self.file = float(Path(weights).read_text()) if weights else 1.0
        self.scale, self.power = factor() * self.file, power
        self.map = nn.Linear(192, 12)
        nn.init.normal_(self.map.weight, generator=torch.Generator().manual_seed(0))

    def features(self, images):
        return torch.cos(self.map(images.flatten(1)) * self.scale) ** self.power
"""


class Changing:
    """A suite of one job, and one change of something that its score depends on."""

    def __init__(self, folder):
        self.folder = folder
        self.backbone, self.task, self.protocol = (
            "{name: raw_pixels, size_px: 8}",
            "digits",
            "{name: knn, k: 1}",
        )
        self.plugins = []

    def images(self, seed):
        """Class folders with images of a seed, in train and test."""
        rng = np.random.default_rng(seed)
        for split in ("train", "test"):
            for label in ("a", "b"):
                (self.folder / "images" / split / label).mkdir(parents=True, exist_ok=True)
                for i in range(12):
                    image = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
                    image.save(self.folder / "images" / split / label / f"{i}.png")
        self.task = f"{{name: t, source: folder, path: '{self.folder}/images'}}"

    def plugin(self):
        (self.folder / "my_parts").mkdir()
        (self.folder / "my_parts" / "__init__.py").write_text("")
        (self.folder / "my_parts" / "inner.py").write_text("def factor():\n    return 1.0\n")
        (self.folder / "plugin.py").write_text(PLUGIN.format(folder=str(self.folder)))
        self.plugins, self.backbone = [str(self.folder / "plugin.py")], "mine"

    def checkpoint(self, seed):
        torch.manual_seed(seed)
        torch.save(timm.create_model("test_resnet", num_classes=0).state_dict(), self.folder / "w.pth")
        self.backbone = f"{{name: 'timm:test_resnet', checkpoint: '{self.folder}/w.pth', size_px: 32}}"

    def run(self, out):
        suite = self.folder / "suite.yaml"
        suite.write_text(
            f"name: i\nbudgets: [full]\nlimit: 60\nbackbones: [{self.backbone}]\n"
            f"tasks: [{self.task}]\nprotocols: [{self.protocol}]\n"
        )
        (record,) = vitbench.run(suite, self.folder / out, plugins=self.plugins, device="cpu")
        assert record.status == "ok", record.failure
        return record


def files_of_a_folder(it, _patch):
    it.images(0)
    yield
    it.images(1)


def one_pixel(it, _patch):
    it.images(0)
    yield
    Image.new("RGB", (8, 8)).save(it.folder / "images/test/a/0.png")


def a_link_to_other_data(it, _patch):
    it.images(0)
    (it.folder / "images/train").rename(it.folder / "one")
    it.images(1)
    (it.folder / "images/train").rename(it.folder / "two")
    (it.folder / "images/train").symlink_to(it.folder / "one")
    yield
    (it.folder / "images/train").unlink()
    (it.folder / "images/train").symlink_to(it.folder / "two")


def the_same_sizes_and_times(it, _patch):
    """Replaced in place, as a restored backup is."""
    it.images(0)
    files = sorted((it.folder / "images" / "train").rglob("*.png"))

    def write(shades):
        for i, file in enumerate(files):
            shade = shades[file.parent.name == "a"]  # each class gets the other's
            Image.new("RGB", (8, 8), (shade, 2 * i, 3)).save(file, compress_level=0)

    write((10, 200))
    stats = [file.stat() for file in files]
    yield
    write((200, 10))
    for file, stat in zip(files, stats, strict=True):
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        assert file.stat().st_size == stat.st_size


def prepared(form):
    def change(it, patch):
        patch.setenv("TFDS_DATA_DIR", str(it.folder / form))
        for name, n in (("one", 60), ("two", 44)):
            source = prepare("cifar10", it.folder / name, n=n)
            if form == "tfrecord":
                to_tfrecord(source, it.folder / f"{name}-tf" / "cifar10" / source.name)
        ending = "-tf" if form == "tfrecord" else ""
        shutil.copytree(it.folder / f"one{ending}", it.folder / form)
        it.task = "cifar10"
        yield
        shutil.rmtree(it.folder / form)
        shutil.copytree(it.folder / f"two{ending}", it.folder / form)

    return change


def another_data_dir(it, patch):
    prepare("cifar10", it.folder / "one", n=60)
    prepare("cifar10", it.folder / "two", n=44)
    patch.setenv("TFDS_DATA_DIR", str(it.folder / "one"))
    it.task = "cifar10"
    yield
    patch.setenv("TFDS_DATA_DIR", str(it.folder / "two"))


def a_checkpoint(it, _patch):
    it.checkpoint(0)
    yield
    it.checkpoint(1)


def an_npz(it, _patch):
    spec = golden("vit_a")["spec"]
    path = saved(weights(spec, "a"), it.folder)
    it.backbone = f"'npz:{path}'"
    yield
    saved(weights(spec, "other"), it.folder)


def a_folder_of_transformers(it, _patch):
    """Its argument is a text that turns out to be a folder."""
    shape = {"hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 3, "intermediate_size": 12, "image_size": 16,
             "patch_size": 8, "num_labels": 5}  # fmt: skip

    def save(seed):
        torch.manual_seed(seed)
        transformers.ViTForImageClassification(transformers.ViTConfig(**shape)).save_pretrained(
            it.folder / "saved"
        )
        transformers.ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(it.folder / "saved")

    save(0)
    it.backbone = f"'hf:{it.folder}/saved'"
    yield
    save(1)


def a_text_that_is_a_file(it, _patch):
    it.plugin()
    (it.folder / "scale.txt").write_text("1.0")
    it.backbone = f"{{name: mine, weights: '{it.folder}/scale.txt'}}"
    yield
    (it.folder / "scale.txt").write_text("30.0")


def a_plugins_own_file(it, _patch):
    it.plugin()
    yield
    (it.folder / "plugin.py").write_text(
        PLUGIN.format(folder=str(it.folder)).replace("torch.cos", "torch.sin")
    )


def what_a_plugin_imports(it, _patch):
    it.plugin()
    yield
    (it.folder / "my_parts" / "inner.py").write_text("def factor():\n    return 30.0\n")


def an_option_of_the_backbone(it, _patch):
    it.plugin()
    yield
    it.backbone = "{name: mine, power: 8}"


def an_option_of_the_protocol(it, _patch):
    yield
    it.protocol = "{name: knn, k: 20}"


def an_option_of_the_task(it, _patch):
    it.images(0)
    shutil.rmtree(it.folder / "images/test")
    yield
    it.task = it.task.replace("source", "split_seed: 7, source")


def the_version_of_a_protocol(it, patch):
    yield
    entry = PROTOCOLS._entries["knn"]
    patch.setitem(PROTOCOLS._entries, "knn", dataclasses.replace(entry, number=entry.number + 1))


def the_version_of_a_library(name):
    def change(it, patch):
        it.checkpoint(0)
        yield
        known = importlib.metadata.version
        patch.setattr(libraries, "version", lambda one: "99.9.9" if one == name else known(one))
        libraries._version.cache_clear()

    return change


MOVED = {
    "files of a folder": files_of_a_folder, "one image": one_pixel, "a link": a_link_to_other_data,
    "same size and time": the_same_sizes_and_times, "array_record": prepared("array_record"), "tfrecord": prepared("tfrecord"),
    "data dir": another_data_dir, "a checkpoint": a_checkpoint, "an npz": an_npz, "a saved folder": a_folder_of_transformers,
    "a text that is a file": a_text_that_is_a_file, "a plugin": a_plugins_own_file, "its import": what_a_plugin_imports,
    "a backbone's option": an_option_of_the_backbone, "a protocol's option": an_option_of_the_protocol,
    "a task's option": an_option_of_the_task,
}  # fmt: skip
SAME_SCORE = {
    "a component's version": the_version_of_a_protocol, "timm": the_version_of_a_library("timm"),
    "torch": the_version_of_a_library("torch"),
}  # fmt: skip


@pytest.fixture
def it(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(plugins, "_loaded", {})
    monkeypatch.setenv("VITBENCH_CACHE", str(tmp_path / "cache"))
    with BACKBONES.restored(), TASKS.restored(), PROTOCOLS.restored():
        yield Changing(tmp_path)
    libraries._version.cache_clear()
    for name in [name for name in sys.modules if name.startswith("my_parts")]:
        del sys.modules[name]


QUICK = ("one image", "array_record", "a text that is a file", "its import", "a component's version")


@pytest.mark.parametrize(
    "what",
    [pytest.param(one, marks=[] if one in QUICK else pytest.mark.slow) for one in [*MOVED, *SAME_SCORE]],
)
def test_what_has_changed_is_measured_again(it, what, monkeypatch):
    change = {**MOVED, **SAME_SCORE}[what](it, monkeypatch)
    next(change)
    before = it.run("same")
    assert it.run("same") == before  # nothing to do
    next(change, None)
    after = it.run("same")
    assert after.key != before.key
    elsewhere = it.run("new")
    assert (elsewhere.key, elsewhere.metrics) == (after.key, after.metrics)
    shutil.rmtree(it.folder / "cache")  # what a fresh machine would find
    fresh = it.run("fresh")
    assert fresh.metrics == after.metrics
    predictions = [
        Path(it.folder / out / "predictions" / f"{after.key}.parquet").read_bytes()
        for out in ("same", "fresh")
    ]
    assert predictions[0] == predictions[1]
    assert len(list((it.folder / "same" / "records").iterdir())) == 2
    if what in MOVED:
        first = (it.folder / "same" / "predictions" / f"{before.key}.parquet").read_bytes()
        assert first != predictions[0]


def test_a_run_says_that_it_measures_again(it, monkeypatch):
    said = []

    def note(_self, text):
        if "set apart" not in text:  # as in every run of a folder without splits
            said.append(text)

    monkeypatch.setattr("vitbench.engine.run.Progress.remark", note)
    it.run("same")
    assert said == []
    it.images(0)
    it.run("same")
    assert said == []  # another task: nothing of it was there
    it.images(1)
    it.run("same")
    assert [text.split(":")[0] for text in said] == ["1 results that are there are measured again"]
    assert json.loads((it.folder / "same" / "plan.json").read_text())
