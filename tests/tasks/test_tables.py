"""Images that a table lists: CSV and Parquet give the task that the same images in folders give, and say what is wrong."""

import io
import tarfile
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import vitbench
from tests.making.command import vitbench as command
from tests.making.tables import CLASSES, as_arrow, as_parquet, as_saved, as_tars, encoded
from vitbench.core.errors import DataMissingError, UsageError
from vitbench.core.registry import TASKS
from vitbench.tasks.huggingface import huggingface
from vitbench.tasks.tables import arrow, csv, parquet
from vitbench.tasks.webdataset import OTHER_ORDER, webdataset


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Ninety images in class folders, and the rows of a table of them in another order."""
    monkeypatch.setenv("VITBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    rows = []
    for i in range(90):
        label, split = i % 3, ("train", "train", "val", "test", "test")[i % 5]
        file = tmp_path / "images" / split / CLASSES[label] / f"{i:03d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encoded(i, label))
        rows.append((str(file.relative_to(tmp_path)), CLASSES[label], split, i // 6))
    return pd.DataFrame(rows, columns=["path", "label", "split", "patient"]).sample(frac=1, random_state=1)


def contents(task):
    """Every split as a set of pixels with their class."""
    found = {}
    for name in ("train", "val", "test"):
        split = getattr(task, name)()
        images = split.source.read(split.indices.tolist())
        found[name] = {
            (image.tobytes(), task.class_names[y]) for image, y in zip(images, split.labels, strict=True)
        }
    return found


def test_a_csv_and_parquet_are_the_same_task_as_folders(folder, tmp_path):
    folder.to_csv("table.csv", index=False)
    folder.to_csv("table.tsv", index=False, sep="\t")
    as_parquet(folder, tmp_path / "one.parquet")
    for split, rows in folder.groupby("split"):
        half = len(rows) // 2
        name = {"val": "validation"}.get(split, split)
        as_parquet(rows[:half].drop(columns=[]), tmp_path / "hub" / "data" / f"{name}-00000-of-00002.parquet")
        as_parquet(rows[half:], tmp_path / "hub" / "data" / f"{name}-00001-of-00002.parquet")
    as_tars(folder, tmp_path / "wds")
    as_saved(folder, tmp_path / "saved")
    as_saved(folder, tmp_path / "seekable", random_access=True)
    for split, rows in folder.groupby("split"):
        as_arrow(rows, tmp_path / "cached" / f"insects-{split}-00000-of-00001.arrow")
    wanted = contents(TASKS.make("folder", {"path": tmp_path / "images"})[1])
    assert {len(rows) for rows in wanted.values()} == {36, 18}
    for task in (
        csv(tmp_path / "table.csv"), csv(tmp_path / "table.tsv"), parquet(tmp_path / "one.parquet"),
        parquet(tmp_path / "hub"),
        webdataset(tmp_path / "wds"), arrow(tmp_path / "saved"), arrow(tmp_path / "seekable"),
        arrow(tmp_path / "cached"), huggingface(str(tmp_path / "saved")),
    ):  # fmt: skip
        assert contents(task) == wanted
        assert task.class_names == CLASSES


def test_splits_that_are_missing_are_cut_from_train(folder, tmp_path):
    folder.drop(columns="split").to_csv("table.csv", index=False)
    first, again, other = (csv(tmp_path / "table.csv", split_seed=seed) for seed in (0, 0, 1))
    sizes = [len(part) for part in (first.train(), first.val(), first.test())]
    assert sizes == [63, 9, 18]
    assert contents(first) == contents(again) != contents(other)
    whole = [contents(first)[name] for name in ("train", "val", "test")]
    assert len(set.union(*whole)) == sum(map(len, whole))
    folder.assign(split=folder["split"].replace("val", "train")).to_csv("table.csv", index=False)
    assert len(csv(tmp_path / "table.csv").test()) == 36
    assert len(csv(tmp_path / "table.csv").val()) == 6


SOURCES = {
    "csv": lambda rows, path: (rows.to_csv(path / "t.csv", index=False), csv, path / "t.csv"),
    "parquet": lambda rows, path: (as_parquet(rows, path / "t.parquet"), parquet, path / "t.parquet"),
    "parquet files": lambda rows, path: (
        [as_parquet(part, path / "p" / f"{split}-00000-of-00001.parquet") for split, part in rows.groupby("split")],
        parquet, path / "p",
    ),
    "arrow": lambda rows, path: (as_saved(rows, path / "a"), arrow, path / "a"),
    "webdataset": lambda rows, path: (as_tars(rows, path / "w"), webdataset, path / "w"),
}  # fmt: skip


@pytest.mark.parametrize("source", SOURCES)
def test_splits_can_be_named(folder, tmp_path, source):
    """A data set whose test split has no labels, as the hub's ImageNet: validation is scored, the rest is left out and said."""
    renamed = folder.assign(
        split=folder["split"].map({"train": "train", "test": "validation", "val": "test"})
    )
    _, build, path = SOURCES[source](renamed, tmp_path)
    wanted = contents(TASKS.make("folder", {"path": tmp_path / "images"})[1])
    task = build(path, test="validation")
    found = contents(task)
    assert found["test"] == wanted["test"]
    assert found["train"] | found["val"] == wanted["train"]
    left_out, cut = task.remarks()[:2]
    assert left_out == "18 images of other splits are left out: test"
    assert cut.startswith("images of train were set apart as val (")
    assert build(path).remarks() == ()
    with pytest.raises(UsageError, match=r"has no split 'validatoin'(.|\n)*did you mean"):
        build(path, test="validatoin")


def test_a_split_that_is_left_out_needs_no_labels(folder, tmp_path):
    folder.assign(label=folder["label"].where(folder["split"] != "val", "")).to_csv("t.csv", index=False)
    with pytest.raises(DataMissingError, match=r"have no label(.|\n)*leave it out"):
        csv(tmp_path / "t.csv")
    renamed = pd.read_csv("t.csv", keep_default_na=False).replace({"split": {"val": "unsupervised"}})
    renamed.to_csv("t.csv", index=False)
    with pytest.raises(DataMissingError, match=r"is of split 'unsupervised'(.|\n)*train=train"):
        csv(tmp_path / "t.csv")
    task = csv(tmp_path / "t.csv", train="train", test="test")
    assert task.remarks()[0] == "18 images of other splits are left out: unsupervised"


def test_what_is_wrong_with_arrow_is_said(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataMissingError, match=r"contains no \.arrow file"):
        arrow(tmp_path / "empty")
    (tmp_path / "bad.arrow").write_bytes(b"no arrow at all")
    with pytest.raises(DataMissingError, match="cannot be read as Arrow"):
        arrow(tmp_path / "bad.arrow")
    as_saved(folder, tmp_path / "saved")
    (tmp_path / "saved" / "train" / "data-00001-of-00002.arrow").unlink()
    with pytest.raises(DataMissingError, match=r"data-00001-of-00002.arrow cannot be read"):
        arrow(tmp_path / "saved")


def test_numbers_are_classes_in_the_order_of_their_values(folder, tmp_path):
    folder.assign(label=folder["label"].map({"ant": "10", "bee": "9", "cat": "100"})).to_csv(
        "t.csv", index=False
    )
    assert csv(tmp_path / "t.csv").class_names == ("9", "10", "100")


def test_clusters_come_from_a_column(folder, tmp_path):
    folder.to_csv("table.csv", index=False)
    as_parquet(folder, tmp_path / "one.parquet")
    for task in (
        csv(tmp_path / "table.csv", cluster="patient"),
        parquet(tmp_path / "one.parquet", cluster="patient"),
    ):
        test = task.test()
        rows = folder[folder["split"] == "test"]
        assert len(set(test.clusters.tolist())) == rows["patient"].nunique()
        assert (pd.factorize(test.clusters)[0] == pd.factorize(rows["patient"])[0]).all()


BAD = {
    "a column that is not there": (lambda rows: rows.rename(columns={"label": "lable"}), "no column 'label'(.|\n)*lable"),
    "a file that is not there": (lambda rows: rows.replace({"path": {rows["path"].iloc[3]: "gone.png"}}), "gone.png"),
    "another split": (lambda rows: rows.assign(split="extra"), "is of split 'extra'"),
    "a label that train lacks": (
        lambda rows: rows.assign(label=rows["label"].where(rows["split"] != "test", "dog")), "no training row has: 'dog'"
    ),
    "a row without a label": (lambda rows: rows.assign(label=["", *rows["label"].tolist()[1:]]), "have no label"),
    "one class": (lambda rows: rows.assign(label="ant"), "has 1 class"),
    "no rows": (lambda rows: rows[:0], "has no rows"),
    "no training split": (lambda rows: rows.assign(split="test"), "class|training"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_what_is_wrong_is_said(folder, tmp_path, kind):
    change, said = BAD[kind]
    change(folder).to_csv("table.csv", index=False)
    with pytest.raises((DataMissingError, UsageError), match=said):
        csv(tmp_path / "table.csv")


def test_what_is_wrong_with_parquet_is_said(folder, tmp_path):
    as_parquet(folder, tmp_path / "one.parquet")
    with pytest.raises(UsageError, match=r"no column 'img'(.|\n)*image"):
        parquet(tmp_path / "one.parquet", image="img")
    with pytest.raises(UsageError, match="column 'patient' holds int64, not encoded images"):
        parquet(tmp_path / "one.parquet", image="patient")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataMissingError, match=r"contains no \.parquet file"):
        parquet(tmp_path / "empty")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DataMissingError, match="cannot be read as Parquet"):
        parquet(tmp_path / "bad.parquet")
    for name in ("train-0", "test-0", "extra-0"):
        as_parquet(folder, tmp_path / "hub" / f"{name}.parquet")
    with pytest.raises(DataMissingError, match=r"extra-0.parquet do not say which split"):
        parquet(tmp_path / "hub")


def test_the_key_follows_the_images_that_a_csv_names(folder, tmp_path):
    folder.to_csv("table.csv", index=False)
    entry = TASKS.get("csv")[0]
    options = {"path": tmp_path / "table.csv", "image": "path"}
    before = entry.content(options)
    assert set(before) == {"path", "data"}
    (tmp_path / folder["path"].iloc[5]).write_bytes(encoded(77, 1))
    after = entry.content(options)
    assert before["path"] == after["path"]
    assert before["data"] != after["data"]


def test_one_line_on_the_command_line(folder, tmp_path):
    folder.to_csv("table.csv", index=False)
    as_parquet(folder, tmp_path / "one.parquet")
    how = (
        "--backbone",
        "raw_pixels,size_px=8",
        "--protocol",
        "knn,k=1",
        "--budget",
        "full",
        "--out",
        "runs/x",
    )
    said = command(
        "run",
        "quickstart",
        *how,
        "--task",
        "csv:table.csv,name=mine",
        "--task",
        "parquet:one.parquet,label=label",
    )
    assert said.returncode == 0, said.stderr
    records = {record.job.task.label: record for record in vitbench.load_records("runs/x")}
    assert set(records) == {"mine", "one"}
    assert records["mine"].metrics == records["one"].metrics
    assert records["mine"].metrics["top1"].value == 1.0
    assert records["one"].data.n_test == 36


def test_bad_images_are_named_by_file_and_row(folder, tmp_path):
    as_parquet(folder, tmp_path / "one.parquet")
    table = pq.read_table(tmp_path / "one.parquet")
    images = table["image"].to_pylist()
    images[20] = {"bytes": b"no image", "path": None}
    images[21] = {"bytes": None, "path": "x.png"}
    at = table.schema.get_field_index("image")
    broken = table.set_column(at, "image", pa.array(images, table.schema.field("image").type))
    pq.write_table(broken.slice(0, 50), tmp_path / "hub-0.parquet", row_group_size=7)
    task = parquet(tmp_path / "hub-0.parquet")
    sources = [task.train(), task.val(), task.test()]
    named = ""
    for split in sources:
        try:
            split.source.read(split.indices.tolist())
        except vitbench.core.errors.VitbenchError as error:
            named += str(error)
    assert "hub-0.parquet[20]" in named
    assert "hub-0.parquet[21] (the row names a file instead of an image)" in named


def test_tars_are_indexed_once_and_again_when_they_change(folder, tmp_path, monkeypatch):
    as_tars(folder, tmp_path / "wds")
    first = webdataset(tmp_path / "wds")
    assert first.train().source.name(0).startswith("train/0.tar:s")
    with monkeypatch.context() as patch:
        patch.setattr(
            "vitbench.data.tar_images.TarReader", lambda path: pytest.fail(f"{path} was read again")
        )
        again = webdataset(tmp_path / "wds")
    assert again.test().source.fingerprint == first.test().source.fingerprint
    before = contents(first)
    as_tars(folder[folder["split"] != "test"].assign(split="train"), tmp_path / "wds")
    assert contents(webdataset(tmp_path / "wds")) != before


def test_a_copy_of_a_vtab_task_says_that_it_is_one(folder, tmp_path):
    as_tars(folder, tmp_path / "wds_vtab-insects")
    assert webdataset(tmp_path / "wds_vtab-insects").departures() == (OTHER_ORDER,)
    as_tars(folder, tmp_path / "mine")
    assert webdataset(tmp_path / "mine").departures() == ()


def test_what_is_wrong_with_tars_is_said(folder, tmp_path):
    (tmp_path / "none").mkdir()
    with pytest.raises(DataMissingError, match=r"contains no \.tar file"):
        webdataset(tmp_path / "none")
    as_tars(folder, tmp_path / "cut")
    file = next((tmp_path / "cut" / "test").glob("*.tar"))
    file.write_bytes(b"no tar" * 200)
    with pytest.raises(DataMissingError, match="cannot be read as webdataset's tar file"):
        webdataset(tmp_path / "cut")
    as_tars(folder, tmp_path / "bare")
    with tarfile.open(tmp_path / "bare" / "test" / "9.tar", "w") as tar:
        tar.add(folder["path"].iloc[0], "x.png")
    with pytest.raises(DataMissingError, match=r"1 images have no \.cls, such as x"):
        webdataset(tmp_path / "bare")


@pytest.mark.parametrize(
    ("members", "said"),
    [
        (["a.cls", "b.cls", "b.png", "a.png"], None),  # halves need not be neighbours
        (["a.png", "a.png", "a.cls"], "a has two images"),
        (["a.png", "a.jpg", "a.cls"], "a has two images"),
        (["a.cls", "a.cls", "a.png"], "a has two labels"),
        (["a.png", "a.cls", "a.png"], "a has two images"),
        (["a.png", "b.cls", "b.png"], r"1 images have no \.cls, such as a"),
        (["a.webm", "a.cls"], r"1 labels \(\.cls\) have no image, such as a"),
    ],
)
def test_every_image_has_one_label(folder, tmp_path, members, said):
    as_tars(folder, tmp_path / "wds")
    with tarfile.open(tmp_path / "wds" / "test" / "9.tar", "w") as tar:
        for name in members:
            data = b"1" if name.endswith(".cls") else Path(folder["path"].iloc[0]).read_bytes()
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    if said:
        with pytest.raises(DataMissingError, match=said):
            webdataset(tmp_path / "wds")
    else:
        assert webdataset(tmp_path / "wds").test().labels[-2:].tolist() == [1, 1]
