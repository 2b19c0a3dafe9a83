"""Whatever lies in a file that a user hands over: a message, the right exit code, no traceback, nothing executed or written.

Property-based where the space is large; `vitbench.cli.main` is what the shell calls, and its last line of defence must never
be needed here: a message that speaks of a fault of vitbench is a failure of these tests.
"""

import io
import json
import os
import pickle
import string
import struct
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from vitbench.cli import main
from vitbench.report.page import render
from vitbench.store.record_file import encode, load
from vitbench.store.run_dir import RunDir

FAST = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
TINY = {
    "name": "t", "backbones": [{"name": "raw_pixels", "size_px": 4}], "tasks": ["digits"], "protocols": ["knn"], "limit": 40,
}  # fmt: skip
NASTY = st.one_of(
    st.sampled_from(
        ["../up", "../../etc/passwd", "/etc/passwd", "a\x00b", "a\nb", "\x1b[31mred", "'; drop", '"><script>alert(1)</script>',
         "x" * 10_000, "dıgits", "dіgits", "ﬁ", "\u202eabc", "", " ", "-rf", "~", "$(id)", "%s%n", "{{7*7}}", "CON"]
    ),
    st.text(max_size=30),
)  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | NASTY,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NASTY, inner, max_size=3),
    max_leaves=8,
)


def told(capsys, monkeypatch, *arguments):
    """The command's exit code and words; it may not end in any other way than by exiting."""
    monkeypatch.setattr(sys, "argv", ["vitbench", *map(str, arguments)])
    capsys.readouterr()
    with pytest.raises(SystemExit) as ending:
        main()
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    assert "fault of vitbench" not in err, err
    assert not any(c in out + err for c in "\x1b\x00\u202e")
    return ending.value.code or 0, out, err


def planned(capsys, monkeypatch, folder, data):
    """What reading a suite of these bytes comes to; nothing may appear but the suite itself."""
    (folder / "s.yaml").write_bytes(data)
    code, _, err = told(
        capsys,
        monkeypatch,
        "run",
        folder / "s.yaml",
        "--out",
        folder / "run",
        "--task",
        "digits",
        "--dry-run",
    )
    assert code in (0, 2, 3)
    assert code == 0 or err.startswith("error: ")
    assert {path.name for path in folder.iterdir()} <= {"s.yaml", "run"}


@FAST
@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
@example(b"\xff\xfe")
@example(b"a: &a [*a]")
@example(b"a: !!python/object/apply:os.system ['touch /tmp/x']")
@example(b"name: t\nname: u\n")
@example(b"[" * 5000)
@example(("&a [" + "*a," * 9 + "1]").encode())
def test_a_suite_of_any_bytes(capsys, monkeypatch, tmp_path, data):
    planned(capsys, monkeypatch, tmp_path, data)


@FAST
@given(st.sampled_from([*TINY, "seeds", "budgets", "dtype", "defaults", "description", "preprocess"]), VALUES)
@example("name", "../../x")
@example("seeds", [2**70])
@example("limit", float("nan"))
@example("protocols", [{"name": "knn", "k": 10**400}])
@example("backbones", [{"name": "raw_pixels", "size_px": 10**9}])
@example("backbones", [{"name": "timm:" + "x" * 10_000}])
def test_a_suite_with_any_value_anywhere(capsys, monkeypatch, tmp_path, key, value):
    monkeypatch.setattr("vitbench.engine.estimate.CALIBRATION_S", 0.0)
    text = yaml.safe_dump({**TINY, key: value}, allow_unicode=True)
    planned(capsys, monkeypatch, tmp_path, text.encode("utf-8", "surrogatepass"))


@settings(FAST, max_examples=40)
@given(NASTY)
def test_names_on_the_command_line(capsys, monkeypatch, tmp_path, name):
    if "\x00" in name:
        return  # no shell can pass it on
    monkeypatch.setattr("vitbench.engine.estimate.CALIBRATION_S", 0.0)
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(TINY))
    for option in (
        "--backbone",
        "--task",
        "--protocol",
        "--budget",
        "--set",
        "--seeds",
        "--shard",
        "--plugin",
    ):
        asked = ("run", tmp_path / "s.yaml", f"{option}={name}", "--out", tmp_path / "run", "--dry-run")
        assert told(capsys, monkeypatch, *asked)[0] in (0, 2, 3), option
    assert told(capsys, monkeypatch, "run", f"./{name}", "--dry-run", "--out", tmp_path / "run")[0] in (2, 3)
    assert told(capsys, monkeypatch, "report", f"{tmp_path}/{name}")[0] == 2
    assert told(capsys, monkeypatch, "status", f"{tmp_path}/{name}")[0] == 2


@pytest.mark.parametrize(
    "source",
    [b"def", b"\x00", b"\xff\xfe", b"raise ValueError('no')", b"import sys; sys.exit(0)",
     b"import nothing_of_that_name", b"from vitbench import register_backbone\nregister_backbone(1)(2)",
     b"from vitbench import register_backbone\n@register_backbone('raw_pixels')\ndef f(): ...", b"x" * 100_000, b"("  * 300],
)  # fmt: skip
def test_a_plugin_of_any_bytes(capsys, monkeypatch, tmp_path, source):
    (tmp_path / "p.py").write_bytes(source)
    (tmp_path / "s.yaml").write_text(yaml.safe_dump({**TINY, "backbones": ["mine"]}))
    code, _, err = told(
        capsys, monkeypatch, "run", tmp_path / "s.yaml", "--plugin", tmp_path / "p.py", "--dry-run"
    )
    assert code == 2
    assert "p.py" in err
    assert "unknown backbone 'mine'" in err


def deflated(name, size, member):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive, archive.open(member, "w") as file:
        for _ in range(size >> 20):
            file.write(bytes(1 << 20))
    return name, buffer.getvalue()


class Evil:
    def __reduce__(self):
        return os.system, ("touch executed",)


def saved(content):
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.pth", pickle.dumps({"x": Evil()})), ("b.pth", saved({"x": Evil()})), ("c.pth", b""), ("d.pth", b"\x80\x02."),
        ("e.safetensors", struct.pack("<Q", 2**62) + b"{}"), ("f.safetensors", b"\x00" * 7), ("g.safetensors", b""),
        ("h.safetensors", struct.pack("<Q", 60) + b'{"x":{"dtype":"F32","shape":[99999999],"data_offsets":[0,4]}}'[:60]),
        ("i.npz", b"PK\x03\x04"), ("j.npz", b""), ("k.npz", pickle.dumps(Evil())), deflated("l.npz", 200 << 20, "a.npy"),
        deflated("m.pth", 200 << 20, "archive/data.pkl"), ("n.pth", saved([1, 2])), ("o.pth", saved({"x": torch.zeros(1)})),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_a_checkpoint_of_any_bytes(capsys, monkeypatch, tmp_path, name, data):
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(data)
    backbone = (
        {"name": f"npz:{name}"} if name.endswith("npz") else {"name": "timm:resnet10t", "checkpoint": name}
    )
    Path("s.yaml").write_text(yaml.safe_dump({**TINY, "backbones": [backbone]}))
    code, _, err = told(capsys, monkeypatch, "run", "s.yaml", "--out", "run")
    assert code == 1
    assert name in err
    assert not Path("executed").exists()


def png(width, height):
    """An image that says it is so large, and is a few bytes."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(bytes(100)))
        + chunk(b"IEND", b"")
    )


def jpeg():
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


@settings(FAST, max_examples=15)
@given(st.binary(max_size=100) | st.binary(max_size=40).map(lambda tail: jpeg()[:300] + tail))
@example(b"")
@example(png(100_000, 100_000))
@example(b"GIF89a" + b"\xff" * 30)
def test_a_image_of_any_bytes(capsys, monkeypatch, tmp_path_factory, data):
    place = tmp_path_factory.mktemp("images")
    for split in ("train", "test"):
        for i in range(2):
            for label in "ab":
                (place / split / label).mkdir(parents=True, exist_ok=True)
                (place / split / label / f"{i}.jpg").write_bytes(jpeg())
    (place / "test" / "a" / "odd.jpg").write_bytes(data)
    task = {"name": "images", "source": "folder", "path": str(place), "val_share": 0.5}
    (place / "s.yaml").write_text(
        yaml.safe_dump({**TINY, "tasks": [task], "protocols": [{"name": "knn", "k": 1}]})
    )
    code, _, err = told(capsys, monkeypatch, "run", place / "s.yaml", "--out", place / "run")
    assert code in (0, 1)
    assert code == 0 or "odd.jpg" in err


@settings(FAST, max_examples=30)
@given(st.binary(max_size=80) | VALUES.map(lambda value: json.dumps(value).encode("utf-8", "replace")))
def test_a_record_of_any_bytes(capsys, monkeypatch, tmp_path, data):
    (tmp_path / "records").mkdir(exist_ok=True)
    (tmp_path / "records" / "x.json").write_bytes(data)
    for verb in (("report",), ("export",), ("status",), ("merge", "-o", tmp_path / "out")):
        code, _, err = told(capsys, monkeypatch, *verb, tmp_path)
        assert code == 2
        assert err.startswith("error: ")
    assert not (tmp_path / "out").exists()


@settings(FAST, max_examples=30)
@given(NASTY.filter(bool), NASTY)
def test_no_label_or_note_becomes_part_of_the_page(tiny_records, label, note):
    record = tiny_records[0]
    job = record.job.model_copy(
        update={"backbone": record.job.backbone.model_copy(update={"label": label[:100]})}
    )
    page = render([record.model_copy(update={"job": job, "notes": (note,)})])
    assert "<script>alert" not in page
    assert page.count("<script") == render(tiny_records[:1]).count("<script")


def test_a_record_cannot_name_a_file_outside(tiny_records, tmp_path):
    record = tiny_records[0].model_copy(update={"key": "../../escaped"})
    path = tmp_path / "run" / "records" / "x.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(encode(record))
    with pytest.raises(Exception, match="key is not that of its job"):
        load(tmp_path / "run")
    assert RunDir(tmp_path / "run").read("x") is None


def test_look_alikes_are_told_apart(capsys, monkeypatch, tmp_path):
    code, _, err = told(
        capsys, monkeypatch, "run", "quickstart", "--task", "dіgits", "--out", tmp_path / "r", "--dry-run"
    )
    assert code == 2  # the i is Cyrillic
    assert "digits" in err
    assert all(c in string.printable for c in err.partition("did you mean")[2])
