"""Prepared data are in a job's key by all that is read of them, and exchanged files are noticed while they are read."""

import json
import shutil

import pytest
import tensorflow_datasets as tfds

from tests.making.command import vitbench as command
from tests.making.miniatures import prepare, to_tfrecord
from vitbench.core.errors import DataMissingError
from vitbench.core.registry import TASKS
from vitbench.data.tfds import prepare as preparing
from vitbench.data.tfds import release, source
from vitbench.data.tfds.dataset import DATA_SETS, names_digest
from vitbench.data.tfds.shard_file import DamagedFileError
from vitbench.engine.components import load_all
from vitbench.tasks.cifar import CIFAR10

load_all()  # the data sets are parameters below

SUITE = """\
name: prepared
budgets: [full]
backbones: [{name: raw_pixels, size_px: 8}]
tasks: [cifar10]
protocols: [ridge_probe]
"""


@pytest.fixture(scope="module")
def copies(tmp_path_factory):
    """CIFAR-10 in both formats, each split in two files."""
    folder = tmp_path_factory.mktemp("copies")
    source = prepare("cifar10", folder / "array_record", n=60, shards=2)
    to_tfrecord(source, folder / "tfrecord" / "cifar10" / source.name)
    return folder


@pytest.fixture(params=["array_record", "tfrecord"])
def copy(request, copies, tmp_path, monkeypatch):
    """The version folder of a copy of one's own, which is where data sets are looked for."""
    shutil.copytree(copies / request.param, tmp_path / "data")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "data"))
    (version,) = (tmp_path / "data" / "cifar10").iterdir()
    return version


def shard(version, split, i):
    (found,) = version.glob(f"*-{split}.*-{i:05}-of-*")
    return found


def exchange(one, other):
    kept = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(kept)


def labels_of_all_splits():
    _, task = TASKS.make("cifar10", {})
    return [task.train().labels, task.val().labels, task.test().labels]


@pytest.mark.parametrize("files", [(("train", 0), ("test", 0)), (("train", 0), ("train", 1)), (("test", 0), ("test", 1)),
                                   (("train", 1), ("test", 1))])  # fmt: skip
def test_exchanged_files_are_noticed_in_the_pass_that_reads_labels(copy, files):
    labels_of_all_splits()
    exchange(*(shard(copy, *file) for file in files))
    with pytest.raises(DamagedFileError, match=r"not in TFDS's order|does not belong to"):
        labels_of_all_splits()


def test_a_small_slice_notices_exchanged_files_too(copy):
    """It lies in one file: its neighbours tell."""
    exchange(shard(copy, "train", 0), shard(copy, "train", 1))
    _, task = TASKS.make("cifar10", {})
    with pytest.raises(DamagedFileError, match=r"not in TFDS's order[^\n]*\n.*vitbench data verify cifar10"):
        task.first("train", 5)


def test_a_file_of_another_copy_with_other_images_changes_the_digest(copy):
    """Whatever is read: examples, their order, label names, description, version."""
    found = [CIFAR10.content()]
    file = shard(copy, "test", 1)
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    found.append(CIFAR10.content())
    exchange(shard(copy, "train", 0), shard(copy, "train", 1))
    found.append(CIFAR10.content())
    names = copy / "label.labels.txt"
    names.write_text("\n".join(reversed(names.read_text().split())))
    found.append(CIFAR10.content())
    renamed = copy.rename(copy.with_name("3.0.3"))
    about = json.loads((renamed / "dataset_info.json").read_text())
    (renamed / "dataset_info.json").write_text(json.dumps({**about, "version": "3.0.3"}))
    found.append(CIFAR10.content())
    assert len(set(found)) == len(found)
    (renamed / ".hidden").write_text("")
    (renamed / "beside.log").write_text("")
    assert CIFAR10.content() == found[-1]


def test_a_copy_elsewhere_with_the_same_content_has_the_same_digest(copy, tmp_path, monkeypatch):
    before = CIFAR10.content()
    shutil.copytree(tmp_path / "data", tmp_path / "other")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "other"))
    assert CIFAR10.content() == before


def scores(folder):
    return {
        p.stem: json.loads(p.read_text())["metrics"]["top1"]["value"]
        for p in (folder / "records").glob("*.json")
    }


@pytest.mark.parametrize("copy", ["array_record"], indirect=True)
def test_another_data_dir_is_another_job(copy, suite_file, tmp_path):
    """In the same run directory, and in a new one with the same caches."""
    suite = suite_file(SUITE)
    prepare("cifar10", tmp_path / "other", n=44, shards=2)
    command("run", suite, "--out", tmp_path / "r")
    done = command("run", suite, "--out", tmp_path / "r", "--data-dir", tmp_path / "other")
    assert "1 new" in done.stderr
    assert len(scores(tmp_path / "r")) == 2
    command("run", suite, "--out", tmp_path / "new", "--data-dir", tmp_path / "other")
    (key,) = scores(tmp_path / "new")
    assert scores(tmp_path / "new")[key] == scores(tmp_path / "r")[key]
    again = command("run", suite, "--out", tmp_path / "r")
    assert "nothing to do" in again.stderr


@pytest.mark.parametrize("copy", ["array_record"], indirect=True)
def test_results_are_kept_where_the_data_are_not(copy, suite_file, tmp_path):
    """A finished run is still finished on a laptop without the data; a job that is not done needs them."""
    suite = suite_file(SUITE)
    command("run", suite, "--out", tmp_path / "r")
    empty = tmp_path / "empty"
    done = command("run", suite, "--out", tmp_path / "r", "--data-dir", empty)
    assert (done.returncode, "nothing to do" in done.stderr) == (0, True)
    assert command("prune", suite, "--out", tmp_path / "r", "--data-dir", empty).stdout == ""
    more = command("run", suite, "--protocol", "knn", "--out", tmp_path / "r", "--data-dir", empty)
    assert more.returncode == 3
    assert "vitbench data prepare cifar10" in more.stderr


def described(copy, **changes):
    file = copy / "dataset_info.json"
    about = json.loads(file.read_text())
    for split in changes.pop("splits", []):
        about["splits"].append({**about["splits"][0], **split})
    file.write_text(json.dumps({**about, **changes}))


@pytest.mark.parametrize("copy", ["array_record"], indirect=True)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": "3.0.9"}, "its version is 3.0.9, in the folder of"),
        ({"name": "cifar100"}, "its name is cifar100"),
        ({"splits": [{}]}, "lists the split 'test' twice|lists the split 'train' twice"),
        (
            {"splits": [{"name": "x", "shardLengths": ["-5", "35"]}]},
            "split 'x' has shards of -5, 35 examples",
        ),
    ],
)
def test_a_description_that_contradicts_itself_is_refused(copy, changes, message):
    described(copy, **changes)
    with pytest.raises(DataMissingError, match=message):
        CIFAR10.locate()


@pytest.mark.parametrize("copy", ["array_record"], indirect=True)
@pytest.mark.parametrize("damage", ["description", "file"])
def test_a_broken_newer_version_is_named_and_the_older_one_is_used_only_if_asked_for(
    copy, damage, monkeypatch
):
    newer = copy.with_name("3.9.0")
    shutil.copytree(copy, newer)
    described(newer, version="3.9.0")
    if damage == "description":
        (newer / "dataset_info.json").write_text("[")
    else:
        shard(newer, "test", 0).unlink()
    with pytest.raises(DataMissingError) as raised:
        TASKS.make("cifar10", {})
    assert str(newer) in raised.value.problems[0].what
    assert f"moves it aside, and uses {copy.name} beside it" in raised.value.problems[0].next_step
    monkeypatch.setattr(preparing.subprocess, "run", None)  # nothing is downloaded
    assert preparing.prepare(CIFAR10).version == copy.name
    assert TASKS.make("cifar10", {})[1].version == copy.name


@pytest.mark.parametrize("name", sorted(name for name, data in DATA_SETS.items() if data.names))
def test_the_reference_label_names_are_those_of_tfds(name, tmp_path):
    builder = tfds.builder(name, data_dir=tmp_path)
    assert names_digest(builder.info.features["label"].names) == DATA_SETS[name].names


@pytest.mark.parametrize("damage", ["exchanged", "missing"])
def test_other_label_names_are_a_departure(damage, prepared, tmp_path, monkeypatch):
    shutil.copytree(prepared / "dtd", tmp_path / "dtd")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    (file,) = tmp_path.rglob("label.labels.txt")
    assert not any("label names" in text for text in TASKS.make("vtab/dtd", {})[1].departures())
    names = file.read_text().split("\n")
    file.unlink() if damage == "missing" else file.write_text("\n".join([names[1], names[0], *names[2:]]))
    assert any("label names" in text for text in TASKS.make("vtab/dtd", {})[1].departures())


def test_a_lossy_copy_of_a_lossless_release_is_a_departure(tmp_path, monkeypatch):
    from tests.making import miniatures

    monkeypatch.setattr(miniatures, "PNG", miniatures.PNG - {"cifar10"})
    prepare("cifar10", tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert any("re-encoded copy" in text for text in TASKS.make("cifar10", {})[1].departures())


def test_labels_of_a_whole_split_are_counted(prepared, tmp_path, monkeypatch):
    """The copy has the release's size, and classes of other sizes."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(prepared))
    monkeypatch.setitem(release.EVEN_CLASSES, "cifar10", {"test": 4})
    monkeypatch.setattr(source, "_sources", type(source._sources)())
    _, task = TASKS.make("cifar10", {})
    task.test()  # the miniature is a departure: its size is not the release's
    object.__setattr__(CIFAR10, "sizes", {"train": 40, "test": 40})
    try:
        monkeypatch.setattr(source, "_sources", type(source._sources)())
        _, task = TASKS.make("cifar10", {})
        task.train()
        with pytest.raises(DamagedFileError, match="label of test: classes have"):
            task.test()
    finally:
        object.__setattr__(CIFAR10, "sizes", {"train": 50_000, "test": 10_000})
