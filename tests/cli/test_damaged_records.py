"""One damaged record costs its own row: it is named in the terminal and on the page, and all others are shown."""

import csv
import os
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.making.bad_input import handled
from tests.making.boards import changed
from tests.making.damage import DAMAGES
from vitbench.core.files import read_file
from vitbench.engine.run import run_suite
from vitbench.report.export import FORMATS
from vitbench.store.run_dir import RunDir


@pytest.fixture(scope="module")
def good(tiny_records):
    """Records of four backbones; the first is to be damaged."""
    return [changed(tiny_records[0], backbone=f"net {i}", value=0.2 + i / 10) for i in range(4)]


@pytest.fixture
def run(good, tmp_path):
    found = RunDir(tmp_path / "run")
    for record in good:
        found.write(record)
    return found


def named(run, record, err):
    """The message about the file of a record, which must be in the terminal."""
    (line,) = [line for line in err.splitlines() if line.startswith("warning: left out: ")]
    assert f"{run.record_path(record.key)}: not a record" in line
    return line.removeprefix("warning: left out: ")


def text_of(page):
    shown = []
    parser = HTMLParser()
    parser.handle_data = shown.append
    parser.feed(page)
    return "".join(shown)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_record_costs_its_own_row(run, good, damage):
    bad, *others = good
    DAMAGES[damage](run.record_path(bad.key))
    code, _, err = handled("report", run.path)
    assert code == 1
    page = text_of(run.report_path.read_text(encoding="utf-8"))
    assert named(run, bad, err) in page
    assert "1 record file cannot be read" in page
    assert all(f"net {i}" in page for i in (1, 2, 3))
    assert "net 0" not in page.replace(err, "")
    code, _, err = handled("export", run.path, "-o", run.path / "table.csv")
    assert code == 1
    assert named(run, bad, err)
    with (run.path / "table.csv").open(newline="") as file:
        assert {row["key"] for row in csv.DictReader(file)} == {record.key for record in others}


@pytest.mark.parametrize("form", FORMATS)
def test_every_export_leaves_a_damaged_record_out(run, good, form):
    run.record_path(good[0].key).write_bytes(b"")
    code, _, err = handled("export", run.path, "--format", form, "-o", run.path / "table")
    assert code == 1
    assert named(run, good[0], err)
    table = (run.path / "table").read_bytes()
    assert b"net 1" in table
    assert b"net 0" not in table


def test_a_run_without_a_readable_record_is_an_error(run, good):
    for record in good:
        run.record_path(record.key).write_bytes(b"")
    for verb in (("report",), ("export",)):
        code, _, err = handled(*verb, run.path)
        assert code == 2
        assert err.count("error: ") == 4
        assert all(f"{run.record_path(record.key)}: not a record" in err for record in good)
    assert not run.report_path.exists()


def test_a_file_whose_name_is_not_utf8_is_named(run):
    (run.path / "records" / os.fsdecode(b"caf\xe9.json")).write_bytes(b"")
    code, _, err = handled("report", run.path)
    assert code == 1
    assert r"caf\udce9.json" in err
    assert r"caf\udce9.json" in run.report_path.read_text(encoding="utf-8")


def test_the_page_of_a_run_names_records_that_it_did_not_repeat(tiny, tmp_path):
    """A file that belongs to none of its jobs stays damaged."""
    run = run_suite(str(tiny), tmp_path / "run").run
    (run.path / "records" / "stale.json").write_bytes(b"{}")
    code, _, err = handled("run", tiny, "--out", run.path)
    assert code == 0
    assert "stale.json" in err
    assert "stale.json" in run.report_path.read_text(encoding="utf-8")


def test_a_link_in_a_loop_hides_no_change(run, good):
    (run.path / "records" / "loop.json").symlink_to("loop.json")
    before = run.state()
    run.record_path(good[1].key).unlink()
    assert run.state() != before


def test_a_directory_that_is_read_as_a_file_leaves_nothing_open(tmp_path):
    descriptors = Path("/proc/self/fd")
    before = len(list(descriptors.iterdir()))
    for _ in range(3):
        with pytest.raises(OSError, match="Is a directory"):
            read_file(tmp_path)
    assert len(list(descriptors.iterdir())) == before
