"""Files with a checksum: what is read is what was written, or an error that says why not."""

import pytest

from vitbench.core.files import read_checked, write_checked


@pytest.mark.parametrize("content", [b"", b"\n", b"{}", bytes(range(256))])
def test_what_was_written_is_read(tmp_path, content):
    write_checked(tmp_path / "f", content)
    assert read_checked(tmp_path / "f") == content


def test_every_changed_byte_and_every_truncation_is_found(tmp_path):
    path = tmp_path / "f"
    write_checked(path, b"state")
    data = path.read_bytes()
    damaged = [data[:i] + bytes([data[i] ^ 1]) + data[i + 1 :] for i in range(len(data))]
    for changed in (*damaged, *(data[:i] for i in range(len(data))), data + b"x"):
        path.write_bytes(changed)
        with pytest.raises(ValueError, match=r"f is truncated, edited or damaged"):
            read_checked(path)


def test_a_missing_file_is_an_error_of_the_system(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_checked(tmp_path / "f")
