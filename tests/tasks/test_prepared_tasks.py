"""Every task on a TFDS data set: the reference's splits, rules and quirks, and a run from suite to record."""

import json
import os
import subprocess
import sys
from collections import OrderedDict

import numpy as np
import pytest

import vitbench
from tests.making.miniatures import NO_REAL_LABEL, N
from vitbench.api import Split
from vitbench.core.registry import TASKS
from vitbench.data.tfds import source
from vitbench.data.tfds.dataset import DATA_SETS
from vitbench.data.tfds.source import RecordSource
from vitbench.data.tfds.splits import Slice
from vitbench.published import GROUP_OF, dataset_of
from vitbench.store.known_tasks import MAIN_METRIC
from vitbench.tasks import (
    caltech101,
    cifar,
    clevr,
    diabetic_retinopathy,
    dsprites,
    dtd,
    eurosat,
    fewshot_extras,
    imagenet,
    pets,
    smallnorb,
    svhn,
)

ON_DATA_SETS = [entry for entry in TASKS.entries() if entry.labels.get("dataset")]
VTAB = """
natural caltech101 102 2754 306 6084
natural cifar100 100 45000 5000 10000
natural dtd 47 1880 1880 1880
natural flowers102 102 1020 1020 6149
natural pets 37 2944 736 3669
natural svhn 10 65931 7326 26032
natural sun397 397 76128 10875 21750
specialized patch_camelyon 2 262144 32768 32768
specialized eurosat 10 16200 5400 5400
specialized resisc45 45 18900 6300 6300
specialized diabetic_retinopathy 5 35126 10906 42670
structured clevr_count 8 63000 7000 15000
structured clevr_distance 6 63000 7000 15000
structured dmlab 6 65550 22628 22735
structured kitti_distance 4 6347 423 711
structured dsprites_location 16 589824 73728 73728
structured dsprites_orientation 16 589824 73728 73728
structured smallnorb_azimuth 18 24300 12150 12150
structured smallnorb_elevation 9 24300 12150 12150
"""  # docs/protocols.md#vtab-tasks
ROWS = [line.split() for line in VTAB.split("\n") if line]
OTHERS = {  # docs/protocols.md#vit-data-sets, docs/protocols.md#few-shot-data-sets
    "imagenet": (1000, 1_268_355, 12_812, 50_000),
    "cifar10": (10, 49_000, 1000, 10_000),
    "cifar100": (100, 49_000, 1000, 10_000),
    "oxford_iiit_pet": (37, 3312, 368, 3669),
    "oxford_flowers102": (102, 918, 102, 6149),
    "uc_merced": (21, 900, 100, 1100),
    "colorectal_histology": (8, 1800, 200, 3000),
    "cars196": (196, 7329, 815, 8041),
    "caltech_birds2011": (200, 5394, 600, 5794),
}
TABLE = {f"vtab/{name}": (group, *map(int, sizes)) for group, name, *sizes in ROWS} | {
    name: (None, *sizes) for name, sizes in OTHERS.items()
}


@pytest.fixture
def lengths(monkeypatch, data_dir):
    """Build a task, and compute the sizes of its splits on the reference's data."""

    def measure(entry):
        specs = {}
        wanted = DATA_SETS[entry.labels["dataset"]].sizes
        spec = Slice.spec

        def spy(self, sizes, first=None):
            start, stop = spec(self, wanted, first).partition("[")[2].rstrip("]").split(":")
            specs[self] = int(stop) - int(start)
            return spec(self, sizes, first)

        monkeypatch.setattr(Slice, "spec", spy)
        task = entry.build()
        found = []
        for part in (task.train, task.val, task.test):
            specs.clear()
            part()
            found.append(*specs.values())
        return task, tuple(found)

    return measure


def test_the_table_has_every_task():
    assert {entry.name for entry in ON_DATA_SETS} == set(TABLE)
    assert len(ROWS) == 19


@pytest.mark.parametrize("entry", ON_DATA_SETS, ids=lambda entry: entry.name)
def test_splits_and_classes_are_the_references(entry, lengths):
    group, classes, *sizes = TABLE[entry.name]
    task, found = lengths(entry)
    assert len(task.class_names) == classes
    assert found == tuple(sizes)
    assert (entry.n_test, task.rules[0].name) == (sizes[2], MAIN_METRIC)
    assert group in (None, entry.labels["group"])


@pytest.mark.parametrize("entry", ON_DATA_SETS, ids=lambda entry: entry.name)
def test_parts_do_not_overlap(entry, data_dir):
    task = entry.build()
    parts = [task.train(), task.val(), task.test()]
    ranges = []
    for part in parts:
        split, positions = part.source.spec.rstrip("]").split("[")
        start, stop = map(int, positions.split(":"))
        assert len(part) == stop - start > 0
        ranges.append({(split, i) for i in range(start, stop)})
    assert len(set.union(*ranges)) == sum(map(len, ranges))


@pytest.mark.parametrize("entry", ON_DATA_SETS, ids=lambda entry: entry.name)
def test_flips_and_crops_are_off_where_they_change_labels(entry, data_dir):
    """docs/protocols.md#flips-and-crops"""
    task = entry.build()
    flip, crop = {
        "vtab/dsprites_location": (False, False),
        "vtab/dsprites_orientation": (False, True),
        "vtab/smallnorb_azimuth": (False, True),
        "vtab/clevr_count": (True, False),
        "vtab/clevr_distance": (True, False),
        "vtab/dmlab": (True, False),
        "vtab/kitti_distance": (True, False),
    }.get(entry.name, (True, True))
    assert (task.flip, task.crop) == (flip, crop)


@pytest.mark.slow
def test_every_task_runs_end_to_end(suite_file, data_dir, tmp_path):
    tasks = ", ".join(entry.name for entry in ON_DATA_SETS)
    suite = suite_file(
        f"name: all\nbudgets: [full, 2-shot]\nbackbones: [{{name: raw_pixels, size_px: 8}}]\n"
        f"protocols: [ridge_probe]\ntasks: [{tasks}]\n"
    )
    records = vitbench.run(suite, tmp_path / "run", seeds=[0])
    assert len(records) == 2 * len(ON_DATA_SETS)
    for record in records:
        assert record.failure is None, record.failure
        assert record.data.version.count(".") == 2
        # 40 examples are too few for two shots of every class, and the record says so.
        failed = {check.item for check in record.conformance if not check.ok}
        assert "data as the reference has them" in failed
        assert failed <= {"data as the reference has them", "split", "protocol as its reference has it"}
        assert record.job.budget == "2-shot" or "split" not in failed
    by_task = {record.job.task.name: record for record in records if record.job.budget == "full"}
    assert set(by_task["imagenet"].metrics) == {"top1", "real"}
    assert by_task["imagenet"].metrics["real"].n == N - len(NO_REAL_LABEL)
    assert by_task["imagenet"].metrics["top1"].n == N


def test_images_are_rgb_whatever_is_stored(data_dir):
    for task, grey in (
        (clevr.clevr_count(), False),
        (smallnorb.smallnorb_azimuth(), True),
        (caltech101.caltech101(), None),
    ):
        split = task.train()
        images = split.source.read(range(len(split)))
        assert {image.shape[2] for image in images} == {3}
        flat = [bool((image == image[..., :1]).all()) for image in images]
        assert all(flat) if grey else not all(flat)
        assert any(flat) or grey is False


def test_dsprites_masks_are_black_and_white(data_dir):
    images = dsprites.dsprites_location().test().source.read([0, 1])
    assert set(np.unique(images)) == {0, 255}


def test_labels_of_one_data_set_are_read_in_one_pass(data_dir, monkeypatch):
    count, distance = clevr.clevr_count().train(), clevr.clevr_distance().train()
    assert count.source.fingerprint == distance.source.fingerprint  # so that features are extracted once
    assert set(count.source._columns) == {"count", "distance", "name", "signature"}
    assert not np.array_equal(count.labels, distance.labels)


def test_real_counts_what_the_release_counts():
    labels = imagenet.validation_labels()
    sets = imagenet.real_labels()
    assert sum(bool(found) for found in sets) == 46_837

    class Names:
        def name(self, index):
            return f"ILSVRC2012_val_{index + 1:08d}.JPEG"

    correct = imagenet.real_correct(labels, Split(Names(), np.arange(50_000), labels))
    assert (np.nansum(correct), np.count_nonzero(~np.isnan(correct))) == (42_164, 46_837)


def test_real_needs_the_numbers_in_image_names():
    with pytest.raises(ValueError, match="ReaL labels are looked up by that number"):
        imagenet.validation_number("cat.jpg")


def test_smallnorb_holds_out_other_toys(data_dir):
    task = smallnorb.smallnorb_elevation()
    assert task.train().source.spec.startswith("train[")
    assert task.val().source.spec == f"test[0:{N // 2}]"
    assert task.test().source.spec == f"test[{N // 2}:{N}]"


def test_views_of_a_toy_and_eyes_of_a_patient_belong_together(data_dir):
    for task in (smallnorb.smallnorb_elevation(), smallnorb.smallnorb_azimuth()):
        test = task.test()
        stored = test.source.examples(
            range(len(test)), lambda example: (*example.ints("label_category"), *example.ints("instance"))
        )
        toys = {(int(a), stored[i]) for i, a in enumerate(test.clusters)}
        assert len(toys) == len(set(test.clusters.tolist())) == len(set(stored))
        assert (test.take(np.arange(3)).clusters == test.clusters[:3]).all()
    test = diabetic_retinopathy.diabetic_retinopathy().test()
    names = [test.source.name(i) for i in test.indices]
    assert test.clusters.tolist() == [int(name.split("_")[0]) for name in names]
    assert dtd.dtd().test().clusters is None


def test_shots_come_from_the_whole_training_split(data_dir):
    for entry, split in ((cifar.cifar100, "train"), (pets.vtab_pets, "train"), (eurosat.eurosat, "train")):
        task = entry()
        taken = N * 80 // 100 if entry is eurosat.eurosat else N
        assert task.shots().source.spec == f"{split}[0:{taken}]"
    assert fewshot_extras.uc_merced().shots().source.spec == f"train[0:{N * 1000 // 2100}]"


def test_example_names_are_those_of_the_data_set_if_any(data_dir):
    assert cifar.cifar10().test().source.name(0).startswith("test_")
    assert svhn.svhn().test().source.name(3) == f"svhn_cropped/test[0:{N}][3]"


def test_a_protocol_cannot_reach_test_labels(data_dir, tmp_path, suite_file):
    """A protocol finds no test example in anything it is given, even where val and test share a split."""
    plugin = tmp_path / "prying.py"
    plugin.write_text(
        "import json, pathlib\nfrom dataclasses import dataclass\nimport torch\n"
        "from vitbench import register_protocol\nfrom vitbench.api import Adapted, Protocol\n"
        "@register_protocol('prying')\n@dataclass(frozen=True)\nclass Spy(Protocol):\n"
        "    'Looks everywhere.'\n    out: str = ''\n"
        "    def depends_on_seed(self, budget):\n        return False\n"
        "    def adapt(self, data):\n"
        "        import dataclasses\n"
        "        ways = []\n"
        '        for way in (\'dataclasses.replace(data.train.source, spec="test").labels("azimuth")\',\n'
        "                    'data.val.source.copy', 'data.val.source.data', 'data.val.source._shards'):\n"
        "            try:\n"
        "                eval(way)\n"
        "                ways.append(way)\n"
        "            except (AttributeError, TypeError):\n"
        "                pass\n"
        "        sizes = [len(split.source) for split in (data.train, data.val)]\n"
        "        fields = sorted(name for name, value in vars(data).items() if not isinstance(value, str))\n"
        "        facts = {'ways': ways, 'sizes': sizes, 'fields': fields}\n"
        "        pathlib.Path(self.out).write_text(json.dumps(facts))\n"
        "        return Adapted(data.backbone, lambda x: torch.zeros(len(x), data.num_classes), False)\n"
    )
    out = tmp_path / "seen.json"
    suite = suite_file(
        f"name: spy\nbudgets: [full]\nbackbones: [{{name: raw_pixels, size_px: 8}}]\ntasks: [vtab/smallnorb_azimuth]\n"
        f"protocols: [{{name: prying, out: {out}}}]\n"
    )
    (record,) = vitbench.run(suite, tmp_path / "run", plugins=[str(plugin)])
    assert record.status == "ok", record.failure
    seen = json.loads(out.read_text())
    assert seen["ways"] == []
    assert seen["sizes"] == [N, N // 2]
    assert not any("test" in field or "task" in field for field in seen["fields"])


def test_task_pairs_read_their_images_once(data_dir, suite_file, tmp_path, monkeypatch):
    decoded, parsed = [], []
    read, example = RecordSource.read, source.Example
    monkeypatch.setattr(
        RecordSource,
        "read",
        lambda self, some, **how: (
            decoded.extend((self.data.name, self.spec, i) for i in some) or read(self, some, **how)
        ),
    )
    monkeypatch.setattr(source, "_sources", OrderedDict())
    monkeypatch.setattr(source, "Example", lambda record: parsed.append(record) or example(record))
    pairs = ["clevr_count", "clevr_distance", "smallnorb_azimuth", "smallnorb_elevation"]
    suite = suite_file(
        "name: p\nbudgets: [full]\nbackbones: [{name: raw_pixels, size_px: 8}]\nprotocols: [ridge_probe]\n"
        f"tasks: [{', '.join(f'vtab/{name}' for name in pairs)}]\n"
    )
    monkeypatch.setenv("VITBENCH_CACHE", str(tmp_path / "cache"))
    records = vitbench.run(suite, tmp_path / "run")
    assert [record.failure for record in records] == [None] * 4
    assert len(decoded) == len(set(decoded)) == 2 * 2 * N  # each pair: train and val, and test
    # labels, fingerprints and images: three reads of each of the 160 records, not three per task; and two looks at each
    # task's first image, for its encoding
    assert len(parsed) <= 3 * 2 * 2 * N + 2 * len(pairs)


@pytest.mark.slow
def test_a_run_needs_no_tensorflow_and_no_download(data_dir, suite_file, tmp_path):
    suite = suite_file(
        "name: t\nbudgets: [full]\nbackbones: [{name: raw_pixels, size_px: 8}]\nprotocols: [ridge_probe]\n"
        "tasks: [vtab/kitti_distance]\n"
    )
    code = (
        "import importlib.machinery, socket, sys\n"
        "finder = importlib.machinery.PathFinder\n"
        "found = finder.find_spec\n"
        "finder.find_spec = lambda name, *rest: None if name == 'tensorflow' else found(name, *rest)\n"
        "def connect(*_): raise OSError('no network here')\n"
        "socket.socket.connect = connect\n"
        "import vitbench\n"
        f"(record,) = vitbench.run({str(suite)!r}, {str(tmp_path / 'run')!r})\n"
        "assert record.failure is None, record.failure\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr


def test_the_tasks_groups_are_those_of_the_published_results():
    in_vtab = {entry.name: entry.labels["group"] for entry in ON_DATA_SETS if entry.name.startswith("vtab/")}
    assert in_vtab == {name: GROUP_OF[dataset_of(name)] for name in in_vtab}
    assert len(in_vtab) == len(GROUP_OF) == 19
