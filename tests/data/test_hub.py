"""A first-time user's way with a data set of a hub: prepare, a broken line, a run without a line, a revision that has moved."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.making.command import process
from tests.making.hub_server import Hub, commit_of, served, sha256
from tests.making.tables import CLASSES, as_parquet, encoded

pytestmark = pytest.mark.slow


@dataclass
class User:
    """A user with empty caches and one hub."""

    folder: Path
    hub: Hub

    def variables(self):
        home = str(self.folder / "home")
        return {
            "HF_ENDPOINT": self.hub.url, "HF_HOME": home, "HF_HUB_CACHE": f"{home}/hub", "HF_HUB_OFFLINE": "0",
            "NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost",
            "VITBENCH_CACHE": str(self.folder / "cache"),
        }  # fmt: skip

    def __call__(self, *arguments, **more):
        return process(*arguments, **self.variables(), **more)

    def run(self, name, *more, task="huggingface:maker/insects,name=insects"):
        how = ("--backbone", "raw_pixels,size_px=8", "--protocol", "knn,k=1", "--budget", "full")
        return self("run", "quickstart", "--task", task, *how, "--out", self.folder / name, *more)

    def record(self, name):
        (path,) = (self.folder / name).glob("records/*.json")
        return json.loads(path.read_text())


@pytest.fixture
def user(tmp_path):
    return User(tmp_path, Hub())


def push(user, first=0, config=""):
    """Put ninety images on the hub, in two files for training and one for each other split."""
    rows = []
    (user.folder / "pictures").mkdir(exist_ok=True)
    for i in range(90):
        label = i % 3
        file = user.folder / "pictures" / f"{first + i}.png"
        file.write_bytes(encoded((first + i) % 200, label))
        rows.append((str(file), CLASSES[label], ("train", "train", "validation", "test", "test")[i % 5], i))
    table = pd.DataFrame(rows, columns=["path", "label", "split", "patient"])
    folder = user.folder / f"push-{first}{config}" / config
    train = table[table["split"] == "train"]
    for k, part in enumerate(np.array_split(np.arange(len(train)), 2)):
        as_parquet(train.iloc[part], folder / "data" / f"train-{k:05d}-of-00002.parquet")
    for name in ("validation", "test"):
        as_parquet(table[table["split"] == name], folder / "data" / f"{name}-00000-of-00001.parquet")
    (folder / "README.md").write_text("insects")
    return user.hub.push("maker/insects", user.folder / f"push-{first}{config}")


def test_prepare_then_run_without_a_network(user):
    with served(user.hub):
        commit = push(user)
        missing = user.run("early")
        assert missing.returncode == 3, missing.stderr
        assert "vitbench data prepare 'huggingface:maker/insects'" in missing.stderr
        assert not user.hub.downloads()  # a run never downloads data
        user.hub.drops = 1
        prepared = user("data", "prepare", "huggingface:maker/insects")
        assert prepared.returncode == 0, prepared.stderr
        assert "ready, 4 files" in prepared.stdout
        assert commit in prepared.stdout
        assert len(set(user.hub.downloads())) == 4
        asked = len(user.hub.requests)
    ran = user.run("offline")
    assert ran.returncode == 0, ran.stderr
    assert len(user.hub.requests) == asked
    record = user.record("offline")
    assert record["data"]["version"] == commit[:12]
    assert (record["data"]["n_train"], record["data"]["n_val"], record["data"]["n_test"]) == (36, 18, 36)
    assert record["metrics"]["top1"]["value"] == 1.0


def test_a_revision_that_moves_is_another_task_and_a_pinned_one_stays(user):
    with served(user.hub):
        old = push(user)
        for name in ("huggingface:maker/insects", f"huggingface:maker/insects,revision={old}"):
            assert user("data", "prepare", name).returncode == 0
        assert user.run("one").returncode == 0
        new = push(user, first=100)
        assert user("data", "prepare", "huggingface:maker/insects").returncode == 0
    assert user.run("one").returncode == 0
    records = [json.loads(path.read_text()) for path in (user.folder / "one").glob("records/*.json")]
    assert {record["data"]["version"] for record in records} == {old[:12], new[:12]}
    assert user.run("two", task=f"huggingface:maker/insects,name=insects,revision={old}").returncode == 0
    assert user.record("two")["data"]["version"] == old[:12]


def test_what_cannot_be_prepared_is_said(user):
    with served(user.hub):
        push(user, config="small")
        other = user("data", "prepare", "huggingface:maker/insects,config=large")
        assert other.returncode == 3
        assert "no Parquet files of config 'large'" in other.stderr
        assert "revision=refs/convert/parquet" in other.stderr
        assert user("data", "prepare", "huggingface:maker/insects,config=small").returncode == 0
        unknown = user("data", "prepare", "huggingface:maker/nothing")
        assert unknown.returncode == 3
        assert "maker/nothing" in unknown.stderr
        assert "Traceback" not in unknown.stderr
    gone = user("data", "prepare", "huggingface:maker/insects")  # nobody listens any more
    assert gone.returncode == 3
    assert "Traceback" not in gone.stderr
    files = list((user.folder / "home").rglob("*.parquet"))
    files[0].unlink()
    lost = user.run("lost", task="huggingface:maker/insects,config=small")
    assert lost.returncode == 3
    assert "has gone from the hub's cache" in lost.stderr


def test_commits_of_the_hub_are_of_its_files(user):
    commit = push(user)
    assert commit == commit_of(user.hub.repositories["maker/insects"][0])
    assert all(len(sha256(body)) == 64 for body in user.hub.repositories["maker/insects"][0].values())
