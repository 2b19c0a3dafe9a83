"""The digest of a folder is of all that a reader reads, found by the same walk, whatever the size."""

import os

import pytest

from vitbench.core import digest
from vitbench.core.digest import digest_files, digest_path, walk


@pytest.fixture
def tree(tmp_path, monkeypatch):
    monkeypatch.setenv("VITBENCH_CACHE", str(tmp_path / "cache"))
    for name, text in (("a/1.png", "one"), ("a/2.png", "two"), ("b/1.png", "three")):
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "data"


@pytest.fixture(params=[False, True], ids=["small", "cached"])
def cached(request, monkeypatch):
    """Both ways: read each time, and looked up under the state of the files."""
    if request.param:
        monkeypatch.setattr(digest, "CACHED_FROM_BYTES", 0)


CHANGES = {
    "content of equal size": lambda t: (t / "a/1.png").write_text("eno"),
    "another name": lambda t: (t / "a/1.png").rename(t / "a/3.png"),
    "a file more": lambda t: (t / "b/2.png").write_text(""),
    "a file fewer": lambda t: (t / "b/1.png").unlink(),
    "two contents exchanged": lambda t: (
        (t / "a/1.png").write_text("two"),
        (t / "a/2.png").write_text("one"),
    ),
    "moved to another folder": lambda t: (t / "a/1.png").rename(t / "b/9.png"),
}


@pytest.mark.usefixtures("cached")
@pytest.mark.parametrize("change", CHANGES)
def test_every_change_gives_another_digest(tree, change):
    before = digest_path(tree)
    assert digest_path(tree) == before
    CHANGES[change](tree)
    assert digest_path(tree) != before


@pytest.mark.usefixtures("cached")
def test_a_changed_file_is_seen_although_its_size_and_time_are_as_before(tree):
    """The time of the last status change cannot be set back."""
    before, facts = digest_path(tree), (tree / "a/1.png").stat()
    (tree / "a/1.png").write_text("eno")
    os.utime(tree / "a/1.png", ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert digest_path(tree) != before


@pytest.mark.usefixtures("cached")
def test_links_are_followed_and_what_they_lead_to_counts(tree, tmp_path):
    other = tmp_path / "elsewhere"
    other.mkdir()
    (other / "1.png").write_text("linked")
    plain = digest_path(tree)
    (tree / "c").symlink_to(other)
    linked = digest_path(tree)
    assert linked != plain
    assert list(walk(tree)) == ["a/1.png", "a/2.png", "b/1.png", "c/1.png"]
    (other / "1.png").write_text("liknde")
    assert digest_path(tree) not in (plain, linked)
    (tree / "c").unlink()
    (tree / "c").symlink_to(tmp_path / "nowhere")
    assert digest_path(tree) == plain


def test_loops_pipes_hidden_and_system_files_are_left_out(tree):
    plain = digest_path(tree)
    (tree / "a/again").symlink_to(tree)
    (tree / "a/.ipynb_checkpoints").mkdir()
    (tree / "a/.ipynb_checkpoints/1.png").write_text("a copy")
    (tree / "__MACOSX").mkdir()
    (tree / "__MACOSX/1.png").write_text("x")
    (tree / "a/Thumbs.db").write_text("x")
    os.mkfifo(tree / "a/zz.png")
    assert digest_path(tree) == plain


def test_two_folders_of_equal_content_are_equal_and_names_matter(tree, tmp_path):
    (tmp_path / "copy").symlink_to(tree)
    assert digest_path(tmp_path / "copy") == digest_path(tree)
    assert digest_files(tree, ["a/1.png", "b/1.png"]) != digest_files(tree, ["b/1.png", "a/1.png"])


def test_a_name_that_is_no_utf8_is_part_of_the_digest(tree):
    before = digest_path(tree)
    (tree / "a" / os.fsdecode(b"caf\xe9.png")).write_bytes(b"x")
    assert digest_path(tree) != before


def test_unchanged_files_are_not_read_again(tree, monkeypatch):
    monkeypatch.setattr(digest, "CACHED_FROM_BYTES", 0)
    before = digest_path(tree)
    monkeypatch.setattr(digest, "_digest", lambda _path: pytest.fail("read again"))
    assert digest_path(tree) == before


def test_a_long_reading_is_said(tree, monkeypatch, capsys):
    monkeypatch.setattr(digest, "CACHED_FROM_BYTES", 0)
    monkeypatch.setattr(digest, "SAID_FROM_BYTES", 1)
    digest_path(tree)
    assert "reading 11 B of" in capsys.readouterr().err
    digest_path(tree)
    assert capsys.readouterr().err == ""
