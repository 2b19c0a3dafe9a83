"""Checkpoints that are damaged, hostile or of any bytes are refused by name, and nothing in them is executed."""

import io
import os
import pickle
import struct
import zipfile
from pathlib import Path

import pytest
import torch
import yaml

from tests.making.bad_input import SMALLEST, handled
from tests.making.damage import flip
from vitbench.backbones.models.archives import refuse_bomb
from vitbench.core.errors import UsageError


def test_a_checkpoint_with_a_flipped_byte_is_refused(tmp_path):
    path = tmp_path / "w.pth"
    torch.save({"weight": torch.randn(50, 50)}, path)
    refuse_bomb(path)
    flip(path, path.stat().st_size // 2)
    with pytest.raises(UsageError, match=r"w\.pth is damaged: .*another checksum"):
        refuse_bomb(path)


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
def test_a_checkpoint_of_any_bytes(monkeypatch, tmp_path, name, data):
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(data)
    backbone = (
        {"name": f"npz:{name}"} if name.endswith("npz") else {"name": "timm:resnet10t", "checkpoint": name}
    )
    Path("s.yaml").write_text(yaml.safe_dump({**SMALLEST, "backbones": [backbone]}))
    code, _, err = handled("run", "s.yaml", "--out", "run")
    assert code == 1
    assert name in err
    assert not Path("executed").exists()
