"""The stored order against the keys of docs/protocols.md#golden-keys."""

import itertools
import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from tensorflow_datasets.core.utils.shard_utils import ShardConfig, get_shard_boundaries

from tests.making.miniatures import prepare
from tests.making.paths import GOLDEN as GOLDEN_FILES
from vitbench.core.registry import TASKS
from vitbench.data.budgets import labelled_data
from vitbench.data.tfds.order import digest_keys, reading_order, shard_lengths_of, stored_order
from vitbench.data.tfds.source import source_of
from vitbench.tasks.cifar import CIFAR10
from vitbench.tasks.imagenet import TRAIN_SHARDS

EUROSAT = {
    **dict.fromkeys(["AnnualCrop", "Forest", "HerbaceousVegetation", "Residential", "SeaLake"], 3000),
    **dict.fromkeys(["Highway", "Industrial", "PermanentCrop", "River"], 2500),
    "Pasture": 2000,
}
RESISC45 = [
    *(
        "airplane",
        "airport",
        "baseball_diamond",
        "basketball_court",
        "beach",
        "bridge",
        "chaparral",
        "church",
    ),
    *("circular_farmland", "cloud", "commercial_area", "dense_residential", "desert", "forest", "freeway"),
    *(
        "golf_course",
        "ground_track_field",
        "harbor",
        "industrial_area",
        "intersection",
        "island",
        "lake",
        "meadow",
    ),
    *("medium_residential", "mobile_home_park", "mountain", "overpass", "palace", "parking_lot", "railway"),
    *(
        "railway_station",
        "rectangular_farmland",
        "river",
        "roundabout",
        "runway",
        "sea_ice",
        "ship",
        "snowberg",
    ),
    *(
        "sparse_residential",
        "stadium",
        "storage_tank",
        "tennis_court",
        "terrace",
        "thermal_power_station",
        "wetland",
    ),
]


def sun397_lists():
    root = Path(find_spec("tensorflow_datasets").origin).parent
    (train,) = root.rglob("sun397_tfds_tr.txt")
    (val,) = root.rglob("sun397_tfds_va.txt")
    return {
        "train": train.read_text(encoding="utf-8").split(),
        "validation": val.read_text(encoding="utf-8").split(),
    }


def keys_of(name):
    """The keys of train, and the split, keys and first position of val200."""
    if name in ("cifar100", "svhn_cropped", "dsprites"):
        total, val = {
            "cifar100": (50000, 45000),
            "svhn_cropped": (73257, 65931),
            "dsprites": (737280, 589824),
        }[name]
        return range(total), ("train", range(total), val)
    if name == "smallnorb":
        return range(24300), ("test", range(24300), 0)
    if name == "patch_camelyon":
        return [f"train_{i}" for i in range(262144)], ("validation", [f"valid_{i}" for i in range(32768)], 0)
    if name == "clevr":
        keys = [f"CLEVR_train_{i:06d}.png" for i in range(70000)]
        return keys, ("train", keys, 63000)
    if name == "eurosat":
        keys = [f"{label}_{label}_{i}.jpg" for label, count in EUROSAT.items() for i in range(1, count + 1)]
        return keys, ("train", keys, 16200)
    if name == "resisc45":
        keys = [f"{label}_{label}_{i:03d}.jpg" for label in RESISC45 for i in range(1, 701)]
        return keys, ("train", keys, 18900)
    lists = sun397_lists()
    return lists["train"], ("validation", lists["validation"], 0)


GOLDEN = {
    "cifar100": ("16399 1680 47917 17307", "45288", "13431 9237 17462", "5b25ee0661c3", "93377e439662"),
    "svhn_cropped": ("16399 1680 47917 17307", "39678", "21145 64736 23870", "901fe4f6d4f6", "36ae944d2e32"),
    "dsprites": ("16399 634903 206287 470425", "86528", "220697 85843 84902", "54130b46ffd2", "86005e8c0478"),
    "smallnorb": ("16399 1680 17307 1456", "19374", "23018 16932 19084", "438b845e2bd4", "d9fca0e85af9"),
    "patch_camelyon": (
        "train_251464 train_132287 train_133786 train_86259",
        "train_109410",
        "valid_3270 valid_10310 valid_20603",
        "c1122cb7e413",
        "b3998b44bc84",
    ),
    "clevr": (
        "CLEVR_train_043876.png CLEVR_train_033421.png CLEVR_train_062025.png CLEVR_train_021419.png",
        "CLEVR_train_047592.png",
        "CLEVR_train_035084.png CLEVR_train_029360.png CLEVR_train_004525.png",
        "5dc103310271",
        "9a9150228251",
    ),
    "eurosat": (
        "Forest_Forest_687.jpg Residential_Residential_188.jpg "
        "HerbaceousVegetation_HerbaceousVegetation_1056.jpg Residential_Residential_1762.jpg",
        "HerbaceousVegetation_HerbaceousVegetation_1371.jpg",
        "SeaLake_SeaLake_804.jpg Forest_Forest_1554.jpg River_River_2237.jpg",
        "7dac90dec1b7",
        "5c9a3ab3702f",
    ),
    "resisc45": (
        "dense_residential_dense_residential_068.jpg palace_palace_207.jpg "
        "golf_course_golf_course_450.jpg tennis_court_tennis_court_572.jpg",
        "mobile_home_park_mobile_home_park_476.jpg",
        "cloud_cloud_238.jpg roundabout_roundabout_303.jpg dense_residential_dense_residential_278.jpg",
        "7c42d524f21f",
        "2a2bb0da49b4",
    ),
    "sun397": (
        "/r/rope_bridge/sun_biqflnsoednmhvce.jpg /t/tower/sun_avxiyhlcnzjayhrk.jpg "
        "/b/bedroom/sun_aakynfpfyupnkxtn.jpg /s/subway_station/platform/sun_ayyvnwciaojzkrik.jpg",
        "/b/bar/sun_avqwmcsxnmlvapuv.jpg",
        "/b/boathouse/sun_armmkazxnlvxglwr.jpg /r/restaurant_patio/sun_afhgmyopzixkqugi.jpg "
        "/m/martial_arts_gym/sun_bscsqejghqvnukmw.jpg",
        "bbfe318c912b",
        "ed3f4079a4f3",
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_the_1k_draw_is_that_of_the_reference(name):
    first, last, first_val, digest, digest_val = GOLDEN[name]
    train, (split, val, start) = keys_of(name)
    drawn = [str(key) for key in stored_order("train", train)[:800]]
    assert drawn[:4] == first.split()
    assert drawn[-1] == last
    assert digest_keys(drawn) == digest
    held_out = [str(key) for key in stored_order(split, val)[start : start + 200]]
    assert held_out[:3] == first_val.split()
    assert digest_keys(held_out) == digest_val


@pytest.mark.parametrize(
    "row", json.loads((GOLDEN_FILES / "reading_order.json").read_text()), ids=lambda row: row["split"]
)
def test_the_reading_order_is_that_of_tfds(row):
    assert reading_order(row["shard_lengths"], row["split"]).tolist() == row["order"]


@pytest.mark.parametrize("lengths", [[16] * 20, [32, 0, 16, 5], [1] * 40, [16] * 16, [17] * 3])
def test_files_of_whole_turns_empty_ones_and_many_small_ones_are_read_once(lengths):
    order = reading_order(lengths, "train")
    assert sorted(order.tolist()) == list(range(sum(lengths)))
    turn = min(lengths[0], 16)
    assert order[:turn].tolist() == list(range(turn))


@pytest.mark.parametrize("split", ["train[3", "train[:x]", "", "train[1:2:3]"])
def test_what_is_no_slice_is_an_error(split):
    with pytest.raises(ValueError, match="is not a split"):
        reading_order([5], split)


@pytest.mark.parametrize(("examples", "shards"), [(1_281_167, 1024), (100, 7), (16, 16), (50_000, 3)])
def test_examples_are_divided_among_files_as_tfds_divides_them(examples, shards):
    wanted = [to - start for start, to in itertools.pairwise([0, *get_shard_boundaries(examples, shards)])]
    assert shard_lengths_of(examples, shards) == wanted


def test_tfds_prepares_imagenet_in_1024_files():
    assert ShardConfig().get_number_shards(147_897_477_120, 1_281_167) == TRAIN_SHARDS


@pytest.mark.parametrize("shards", [1, 8])
def test_shots_are_drawn_as_big_vision_draws_them(tmp_path, monkeypatch, shards):
    """It reads train in order, then permutes the positions of each class."""
    prepare("cifar10", tmp_path, n=400, shards=shards)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    _, task = TASKS.make("cifar10", {})
    stored = source_of(CIFAR10, CIFAR10.locate(), "train[0:400]")
    order = reading_order([400 // shards] * shards, "train")
    labels = stored.labels("label")[order]
    generator, wanted = np.random.default_rng(1), []
    for value in range(10):
        wanted += order[generator.permutation(np.flatnonzero(labels == value))[:3]].tolist()
    drawn = labelled_data(task, "3-shot", 1, None)
    assert drawn.train.indices.tolist() == wanted
    assert drawn.train.labels.tolist() == stored.labels("label")[wanted].tolist()
    assert drawn.pools[0].indices.tolist() == list(range(400))
