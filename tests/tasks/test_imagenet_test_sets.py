"""ImageNet's further test sets, as TFDS prepares them and in the folders of their releases."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vitbench
from tests.making.command import vitbench as command
from tests.making.further_sets import metric
from tests.making.miniatures import TEST_SETS, prepare
from vitbench.api import TestSet
from vitbench.core.errors import DataMissingError
from vitbench.core.registry import TASKS
from vitbench.data.tfds.dataset import DATA_SETS
from vitbench.engine.further_sets import _relative_error
from vitbench.published import dataset_of
from vitbench.report.reproduction import find_row, plan_row
from vitbench.tasks.imagenet import wordnet_ids
from vitbench.tasks.imagenet_test_sets import (
    ALEXNET_ERRORS,
    C_PARTS,
    KNOWN,
    ORDER,
    classes_of,
    further_sets_of,
)

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "imagenet_test_sets.json").read_text())
WITH_SETS = """\
name: sets
budgets: [1-shot]
seeds: [0]
backbones: [{name: raw_pixels, size_px: 4}]
tasks: [{name: imagenet, test_sets: [sketch, r, v2, a]}]
protocols: [ridge_probe]
"""


@pytest.fixture(scope="module")
def sets(prepared, tmp_path_factory):
    """ImageNet beside four of its test sets."""
    folder = tmp_path_factory.mktemp("tfds")
    shutil.copytree(prepared / "imagenet2012", folder / "imagenet2012")
    for name in TEST_SETS:
        chosen = {"imagenet_a": classes_of("a"), "imagenet_r": classes_of("r")}.get(name, ())
        prepare(name, folder, n=20, labels=chosen)
    return folder


@pytest.fixture
def here(sets, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(sets))
    return sets


def class_folders(root, names, images=1):
    """Folders of one-coloured images: the colour is the place of the class."""
    for place, name in enumerate(names):
        (root / name).mkdir(parents=True)
        for i in range(images):
            Image.new("RGB", (4, 4), (place % 256, place // 256, i)).save(root / name / f"{i}.png")
    return root


def place_of(split, position):
    red, green, _ = split.source.read([int(split.indices[position])])[0][0, 0]
    return int(red) + 256 * int(green)


@pytest.mark.parametrize("name", ["a", "r"])
def test_the_200_classes_are_those_of_the_evaluations(name):
    assert list(classes_of(name)) == GOLDEN[name]


def test_mean_corruption_error_is_as_augmix_computes_it():
    """Of ResNet-50's accuracies in ImageNet Testbed, which resizes images; without it, 76.7 is published."""
    accuracies = GOLDEN["resnet50 on c"]
    expected = 0.0
    for corruption, reference in ALEXNET_ERRORS.items():  # AX:imagenet.py, compute_mce
        expected += 100 * (1 - np.mean(accuracies[corruption]) / 100) / reference / 15
    parts = {
        f"{c}_{k}": metric(v / 100, 50_000)
        for c, values in accuracies.items()
        for k, v in enumerate(values, 1)
    }
    found = _relative_error(TestSet("c", {}, reference_errors=ALEXNET_ERRORS), parts)
    assert 100 * found == pytest.approx(expected, abs=1e-4)  # accuracies in whole images
    assert round(expected, 1) == 78.2
    assert len(ALEXNET_ERRORS) == 15
    assert len(C_PARTS) == 75


def test_a_job_scores_them_all(here, suite_file, tmp_path):
    (record,) = vitbench.run(suite_file(WITH_SETS), tmp_path / "run")
    assert record.failure is None
    assert list(record.metrics) == ["top1", "real", "v2", "a", "r", "sketch"]
    facts = record.test_sets
    assert {name: (each.n, each.classes) for name, each in facts.items()} == {
        "v2": (20, 1000), "a": (20, 200), "r": (20, 200), "sketch": (20, 1000)
    }  # fmt: skip
    assert facts["v2"].departures == ("v2 has 20 images, the reference 10,000",)
    assert facts["v2"].version.startswith("3.")
    assert facts["a"].dataset == "imagenet_a"
    assert len({each.fingerprints[""] for each in facts.values()}) == 4
    assert any("test set v2: v2 has 20 images" in note for note in record.notes)
    assert facts["v2"].in_distribution is None
    assert facts["a"].in_distribution is None or facts["a"].in_distribution.n <= 40
    again = suite_file(WITH_SETS.replace("[sketch, r, v2, a]", "[a, v2, r, sketch, a]"))
    (same,) = vitbench.run(again, tmp_path / "run")
    assert same.created == record.created  # the order and repetitions in which they are listed do not matter


def test_a_published_row_is_measured_on_the_sets_that_are_there(here, tmp_path, monkeypatch):
    row = find_row("timm-vit_base_patch16_224.augreg_in21k_ft_in1k")
    plan = plan_row(row)
    assert [value.dataset for value in plan.measurable] == list(row.results)
    assert plan.suite(plan.tasks)["tasks"] == [{"name": "imagenet", "test_sets": ["v2", "a", "r", "sketch"]}]
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    without = plan_row(row)
    assert [value.dataset for value in without.measurable] == ["imagenet", "imagenet_real"]
    assert without.suite(without.tasks)["tasks"] == ["imagenet"]
    assert "vitbench data prepare imagenet_v2/matched-frequency" in " ".join(
        each.what for each in without.obstacles
    )


def test_a_set_that_is_not_there_stops_before_anything_runs(here, suite_file, tmp_path):
    suite = suite_file(WITH_SETS.replace("[sketch, r, v2, a]", "[v2-top, v2]"))
    done = command("run", suite, "--out", tmp_path / "run")
    assert done.returncode == 3
    assert "imagenet_v2/topimages is not prepared" in done.stderr
    assert "vitbench data prepare imagenet_v2/topimages" in done.stderr
    done = command("data", "status", suite, "--json")
    assert [row["name"] for row in json.loads(done.stdout)] == [
        "imagenet2012", "imagenet_v2/matched-frequency", "imagenet_v2/topimages"
    ]  # fmt: skip


def test_a_copy_with_other_classes_is_refused(sets, tmp_path, monkeypatch):
    shutil.copytree(sets, tmp_path / "data")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "data"))
    names = next((tmp_path / "data" / "imagenet_sketch").rglob("label.labels.txt"))
    names.write_text("\n".join(reversed(wordnet_ids())) + "\n")
    with pytest.raises(DataMissingError, match="other classes than the task's 1000"):
        further_sets_of(("sketch",), wordnet_ids())


def test_other_images_of_a_set_change_the_jobs_key(sets, tmp_path, monkeypatch):
    entry = TASKS.get("imagenet")[0]
    found = []
    for changed in (False, True):
        shutil.copytree(sets, tmp_path / str(changed))
        monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / str(changed)))
        if changed:
            file = next((tmp_path / "True" / "imagenet_a").rglob("*.array_record-*"))
            file.write_bytes(file.read_bytes() + b"x")
        found.append(
            [entry.content({"test_sets": ("a",)}), entry.content({}), entry.content({"test_sets": ("r",)})]
        )
    (a, none, r), (other_a, same_none, same_r) = found
    assert a != other_a
    assert (none, r) == (same_none, same_r)
    assert len({str(each) for each in (a, none, r)}) == 3


@pytest.mark.parametrize("name", ORDER)
def test_every_set_is_declared_as_tfds_has_it(name):
    import tensorflow_datasets as tfds

    for data in list(KNOWN[name].data.values())[:: 37 if name == "c" else 1]:
        builder = tfds.builder(data.name)
        version = tuple(map(int, str(builder.version).split(".")))
        assert data.accepts(version)
        assert builder.info.features["label"].names == list(wordnet_ids())
        assert DATA_SETS[data.name].test_set == f"imagenet/{name}"
    assert dataset_of("imagenet", name) == (f"imagenet_{name}" if name in ("v2", "a", "r", "sketch") else "")


# ---------------------------------------------------------------- folders


def test_numbered_folders_of_v2_are_class_numbers_not_places_in_a_list(tmp_path):
    """As text, 10 comes before 2."""
    class_folders(tmp_path / "v2", [str(i) for i in range(1000)])
    (found,) = further_sets_of({"v2": tmp_path / "v2"}, wordnet_ids())
    split = found.parts[""]()
    assert len(split) == 1000
    assert [place_of(split, i) for i in (0, 2, 10, 999)] == [int(split.labels[i]) for i in (0, 2, 10, 999)]
    assert sorted(split.labels.tolist()) == list(range(1000))


def test_folders_of_200_classes_have_the_tasks_labels(tmp_path):
    names = [wordnet_ids()[i] for i in classes_of("a")]
    class_folders(tmp_path / "imagenet-a", names)
    (tmp_path / "imagenet-a" / "README.txt").write_text("as released")
    (found,) = further_sets_of({"a": tmp_path / "imagenet-a"}, wordnet_ids())
    split = found.parts[""]()
    assert tuple(split.labels.tolist()) == classes_of("a") == found.classes
    with pytest.raises(DataMissingError, match="does not hold the 200 class folders of this test set"):
        further_sets_of({"r": tmp_path / "imagenet-a"}, wordnet_ids())


@pytest.mark.parametrize("grouped", [False, True])
def test_c_is_found_by_corruption_and_severity(tmp_path, grouped):
    names = ("n1", "n2", "n3")
    for part in C_PARTS:
        corruption, _, severity = part.rpartition("_")
        root = tmp_path / "c" / ("noise" if grouped else "") / corruption / severity
        class_folders(root, names)
    (found,) = further_sets_of({"c": tmp_path / "c"}, names)
    assert tuple(found.parts) == C_PARTS
    assert found.parts["fog_3"]().labels.tolist() == [0, 1, 2]
    assert found.reference_errors == ALEXNET_ERRORS
    shutil.rmtree(root)
    with pytest.raises(DataMissingError, match="has no folder jpeg_compression/5"):
        further_sets_of({"c": tmp_path / "c"}, names)


def test_the_suite_that_ships_plans(tmp_path):
    done = command("run", "imagenet-robustness", "--dry-run", "--on", "h100", "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert "445 k images" in done.stderr
