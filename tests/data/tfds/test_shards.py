"""Records of both formats: TFDS's order and slices, reading in threads, and errors that name file and position."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.making.miniatures import N, prepare, to_tfrecord
from vitbench.core.errors import VitbenchError
from vitbench.data.tfds.dataset import Prepared, _read_info
from vitbench.data.tfds.order import order_hash
from vitbench.data.tfds.shard_file import DamagedFileError, TFRecordFile, masked_crc32c
from vitbench.data.tfds.source import RecordSource
from vitbench.tasks.cifar import CIFAR10
from vitbench.tasks.clevr import CLEVR


def opened(path):
    return Prepared(path, (3, 0, 2), _read_info(path / "dataset_info.json"))


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """CIFAR-10 in four shards, as array_record and as tfrecord."""
    folder = tmp_path_factory.mktemp("cifar")
    array_record = prepare("cifar10", folder, shards=4)
    return {
        "array_record": opened(array_record),
        "tfrecord": opened(to_tfrecord(array_record, folder / "tfr" / "3.0.2")),
    }


FORMATS = pytest.mark.parametrize("form", ["array_record", "tfrecord"])


def names(copy, spec):
    source = RecordSource(CIFAR10, copy, spec)
    return [source.name(i) for i in range(len(source))]


@FORMATS
def test_there_are_several_files(both, form):
    assert len(list(both[form].path.glob(f"*train.{form}-*"))) == 4
    assert both[form].readable == form


@FORMATS
@pytest.mark.parametrize(
    "spec", ["train", "train[:7]", "train[7:25]", "train[-30%:]", "train[30%:60%]", "test[1:]"]
)
def test_slices_are_those_of_tfds(both, form, spec):
    import tensorflow_datasets as tfds

    split = spec.partition("[")[0]
    whole = sorted((f"{split}_{i:05d}" for i in range(N)), key=lambda name: order_hash(split, int(name[-5:])))
    splits = tfds.builder_from_directory(both[form].path).info.splits
    (part,) = tfds.core.ReadInstruction.from_spec(spec).to_absolute(splits)
    assert names(both[form], spec) == whole[part.from_ : part.to]


@FORMATS
def test_positions_in_any_order_are_read_by_any_number_of_threads(both, form):
    source = RecordSource(CIFAR10, both[form], "train")
    everything = source.read(range(N))
    positions = np.random.default_rng(0).integers(0, N, 200)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda some: source.read(some.tolist()), np.split(positions, 20)))
    for position, image in zip(positions, [p for some in found for p in some], strict=True):
        assert np.array_equal(image, everything[position])
    with pytest.raises(IndexError):
        source.read([N])


def test_both_formats_hold_the_same_data(both):
    first, second = (RecordSource(CIFAR10, copy, "train[:30]") for copy in both.values())
    assert first.fingerprint == second.fingerprint
    assert np.array_equal(first.labels("label"), second.labels("label"))
    assert first.fingerprint != RecordSource(CIFAR10, both["tfrecord"], "train[:29]").fingerprint


def test_the_checksum_is_that_of_the_tfrecord_format():
    crc32c = 0xE3069283  # of "123456789", as published with the algorithm; below, rotated and shifted
    assert masked_crc32c(b"123456789") == 0xC78AB0E5 != crc32c


def damaged(copy, tmp_path, change):
    """A copy of the data set in which one file is changed."""
    folder = tmp_path / copy.path.name
    folder.mkdir()
    for file in copy.path.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (file,) = folder.glob("*train*-00002-of-00004")
    file.write_bytes(change(file.read_bytes()))
    return opened(folder), file


@FORMATS
@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[: len(data) // 2],
        lambda data: data[:-3],
        lambda _: b"",
        lambda data: b"\0" * 100 + data[100:],
    ],
    ids=["half", "end", "empty", "start"],
)
def test_a_truncated_or_corrupted_file_is_named(both, tmp_path, form, change):
    copy, file = damaged(both[form], tmp_path, change)
    with pytest.raises(VitbenchError, match=file.name) as raised:
        RecordSource(CIFAR10, copy, "train").read(range(N))
    assert any(character.isdigit() for character in str(raised.value).partition(file.name)[2])


def test_a_flipped_bit_is_found_at_its_byte(both, tmp_path):
    def flip(data):
        return data[:-50] + bytes([data[-50] ^ 1]) + data[-49:]

    copy, file = damaged(both["tfrecord"], tmp_path, flip)
    with pytest.raises(DamagedFileError, match=rf"{file.name}.*at byte [\d,]+: the checksum of record \d"):
        RecordSource(CIFAR10, copy, "train").read(range(N))


def test_a_forked_child_is_refused(both, tmp_path):
    (path,) = both["tfrecord"].path.glob("*train*-00000-*")
    file = TFRecordFile(path, 10)
    file.read([0])
    file.process = os.getpid() + 1
    with pytest.raises(VitbenchError, match="spawn or forkserver"):
        file.check_process()


def test_the_index_is_cached_until_the_file_changes(both, tmp_path):
    _, file = damaged(both["tfrecord"], tmp_path, lambda data: data)
    first = TFRecordFile(file, 10)
    whole = first.read([0])
    assert TFRecordFile(file, 10).read([0]) == whole
    count = len(first._offsets)
    file.write_bytes(file.read_bytes() * 2)
    assert TFRecordFile(file, 2 * count).read([count]) == whole


def test_an_example_without_the_feature_of_a_rule_is_named(prepared, tmp_path):
    copy = opened(prepared / "clevr" / "3.1.0")
    source = RecordSource(CIFAR10, copy, "train[:5]")  # clevr has no feature "id"
    with pytest.raises(DamagedFileError, match=r"3\.1\.0: example 0 of train\[:5\]: it has no feature 'id'"):
        source.labels("label")
    assert RecordSource(CLEVR, copy, "train[:5]").labels("count").shape == (5,)


@FORMATS
def test_few_files_are_open_at_once(both, form, monkeypatch):
    monkeypatch.setattr("vitbench.data.tfds.shards.MOST_OPEN", 2)

    def descriptors():
        links = [str(entry.resolve()) for entry in Path("/proc/self/fd").iterdir()]
        return sum(str(both[form].path) in link for link in links)

    source = RecordSource(CIFAR10, both[form], "train")
    wanted = [len(image) for image in source.read(range(N))]
    assert wanted == [32] * N
    assert descriptors() <= 2 * 2  # a reader may hold two


@FORMATS
def test_a_file_that_may_not_be_read_is_not_called_damaged(both, form, tmp_path, monkeypatch):
    copy, file = damaged(both[form], tmp_path, lambda data: data)
    opener = Path.open

    def refused(self, *arguments, **options):
        if self == file:
            raise PermissionError(13, "Permission denied")
        return opener(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(VitbenchError, match="cannot be read: Permission denied") as raised:
        RecordSource(CIFAR10, copy, "train").read(range(N))
    assert not isinstance(raised.value, DamagedFileError)
