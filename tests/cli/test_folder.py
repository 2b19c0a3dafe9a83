"""`vitbench folder`: a folder of images in one line, and what it says when something is missing."""

import pytest
from PIL import Image

import vitbench
from tests.making.command import vitbench as command
from vitbench.core.errors import DataMissingError
from vitbench.core.registry import TASKS
from vitbench.data.image_folder import split_folders


def pictures(root, splits=("",), classes=("a", "b"), count=14):
    for split in splits:
        for c, name in enumerate(classes):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                Image.new("L", (9, 7), 60 * c + i + 5 * len(split)).save(folder / f"{i}.png")
    return root


@pytest.fixture(autouse=True)
def desk(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VITBENCH_CACHE", str(tmp_path / "cache"))


def test_one_line_evaluates_a_backbone_beside_raw_pixels(tmp_path):
    pictures(tmp_path / "my pets", ("train", "test"))
    ended = command(
        "folder", tmp_path / "my pets", "--backbone", "raw_pixels,size_px=4,label=small", "--seeds", "0"
    )
    assert ended.returncode == 0, ended.stderr
    records = vitbench.load_records("runs/my-pets")
    assert {record.job.backbone.label for record in records} == {"small", "Raw pixels"}
    assert {(record.job.protocol.label, record.job.budget) for record in records} == {
        ("knn", "full"), *(("ridge_probe", budget) for budget in ("1-shot", "5-shot", "10-shot", "full"))
    }  # fmt: skip
    assert {record.job.task.label for record in records} == {"my-pets"}
    assert "1/2" not in ended.stdout  # no other task was asked for


def test_without_a_backbone_it_says_what_is_there_and_how_to_name_one(tmp_path):
    pictures(tmp_path / "pets")
    (tmp_path / "pets" / "a" / "x.heic").touch()
    ended = command("folder", tmp_path / "pets")
    assert ended.returncode == 2
    assert "2 classes, 20 train, 2 val, 6 test images" in ended.stderr
    assert "1 files in class folders are not read: .heic 1" in ended.stderr
    assert f"vitbench folder {tmp_path / 'pets'} --backbone" in ended.stderr
    assert not (tmp_path / "runs").exists()


def test_class_folders_alone_are_the_task_of_train(tmp_path):
    pictures(tmp_path / "plain")
    pictures(tmp_path / "split", ("train",))
    for path in (tmp_path / "split" / "train").rglob("*.png"):  # the same images
        (tmp_path / "plain" / path.parent.name / path.name).write_bytes(path.read_bytes())
    plain, split = (TASKS.make("folder", {"path": tmp_path / name})[1] for name in ("plain", "split"))
    for part in ("train", "val", "test"):
        one, other = getattr(plain, part)(), getattr(split, part)()
        assert [a.tobytes() for a in one.source.read(one.indices)] == [
            a.tobytes() for a in other.source.read(other.indices)
        ]
        assert (one.labels == other.labels).all()
    entry = TASKS.get("folder")[0]
    before = entry.content({"path": tmp_path / "plain"})
    (tmp_path / "plain" / "a" / "new.png").write_bytes((tmp_path / "plain" / "b" / "0.png").read_bytes())
    assert entry.content({"path": tmp_path / "plain"}) != before


@pytest.mark.parametrize(
    "layout", [["one/a.png"], ["a/deep/x.png", "b/deep/x.png"], ["a/x.png", "docs/readme.txt"], ["x.png"], []]
)
def test_what_may_be_something_else_is_no_folder_of_classes(tmp_path, layout):
    root = tmp_path / "root"
    root.mkdir()
    for name in layout:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    assert split_folders(root) == {}
    with pytest.raises(DataMissingError, match=r"there is no folder .*train"):
        TASKS.make("folder", {"path": root})


def test_the_suite_without_a_path_says_what_to_type():
    ended = command("run", "folder")
    assert ended.returncode == 2
    assert "task 'images' needs its `path`" in ended.stderr
    assert "vitbench folder PATH; or --set tasks.images.path=PATH" in ended.stderr


def test_a_folder_that_does_not_exist_is_said():
    ended = command("folder", "nowhere", "--backbone", "raw_pixels")
    assert ended.returncode == 2
    assert "nowhere" in ended.stderr
