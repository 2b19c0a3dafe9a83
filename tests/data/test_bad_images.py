"""Images of any bytes: named in the error, and no program is started for them."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.making.bad_input import FAST, SMALLEST, handled
from vitbench.data.decode import decode


def test_no_image_starts_a_program(tmp_path, monkeypatch):
    """Pillow reads EPS with Ghostscript."""
    fake, started = tmp_path / "gs", tmp_path / "started"
    fake.write_text(f"#!/bin/sh\ntouch {started}\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(tmp_path / "p.eps")
    with pytest.raises(ValueError, match="not an image"):
        decode((tmp_path / "p.eps").read_bytes(), exif_rotate=True)
    assert not started.exists()


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
def test_an_image_of_any_bytes(tmp_path_factory, data):
    place = tmp_path_factory.mktemp("images")
    for split in ("train", "test"):
        for i in range(2):
            for label in "ab":
                (place / split / label).mkdir(parents=True, exist_ok=True)
                (place / split / label / f"{i}.jpg").write_bytes(jpeg())
    (place / "test" / "a" / "odd.jpg").write_bytes(data)
    task = {"name": "images", "source": "folder", "path": str(place), "val_share": 0.5}
    (place / "s.yaml").write_text(
        yaml.safe_dump({**SMALLEST, "tasks": [task], "protocols": [{"name": "knn", "k": 1}]})
    )
    code, _, err = handled("run", place / "s.yaml", "--out", place / "run")
    assert code in (0, 1)
    assert code == 0 or "odd.jpg" in err
