"""VTAB's 800 + 200: only these images are read, each is decoded once, whatever the size of the data set."""

import pytest

import vitbench
from tests.making.miniatures import SPLITS, prepare
from vitbench.data.tfds.shards import Shards
from vitbench.data.tfds.source import RecordSource
from vitbench.tasks.dsprites import dsprites_location

SUITE = """\
name: vtab
budgets: [1k]
backbones: [{name: "timm:resnet10t", pretrained: false, size_px: 32}]
tasks: [vtab/dsprites_location]
protocols: [{name: ridge_probe, preprocess: squash}, {name: finetune, recipe: own, steps: 2, batch_size: 16, flip: true}]
"""


@pytest.fixture
def sprites(tmp_path, monkeypatch):
    """2,400 dSprites: train 1,920, val 240, test 240."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "data"))
    assert SPLITS["dsprites"] == ("train",)
    prepare("dsprites", tmp_path / "data", n=2400, shards=3)


def test_the_draw_is_the_first_800_and_200_in_stored_order(sprites):
    task = dsprites_location()
    assert task.first("train", 800).source.spec == "train[0:800]"
    assert task.first("val", 200).source.spec == "train[1920:2120]"
    whole = task.train()
    assert task.first("train", 800).labels.tolist() == whole.labels[:800].tolist()


def test_nothing_else_is_read_and_every_image_is_decoded_once(sprites, suite_file, tmp_path, monkeypatch):
    read, decoded = [], []
    shards, images = Shards.read, RecordSource.read
    monkeypatch.setattr(
        Shards, "read", lambda self, some: read.append((len(self), len(some))) or shards(self, some)
    )
    monkeypatch.setattr(
        RecordSource,
        "read",
        lambda self, some, **how: decoded.extend((self.spec, i) for i in some) or images(self, some, **how),
    )
    records = vitbench.run(suite_file(SUITE), tmp_path / "run")
    assert [record.status for record in records] == ["ok", "ok"]
    assert [(r.data.n_train, r.data.n_val, r.data.n_test) for r in records] == [(800, 200, 240)] * 2
    assert "not flipped: the task's labels do not survive it" in records[1].notes
    assert (
        max(count for size, count in read if size > 800) <= 1
    )  # the key of a neighbour, which tells exchanged files
    assert len(decoded) == len(set(decoded)) == 800 + 200 + 240
