"""`vitbench report` and `export` of a part of the results, and of more records than a page can have."""

import csv
import io
import shlex
import shutil

import pytest

import vitbench
from tests.making.command import vitbench as command
from vitbench.report.page import Extras, render
from vitbench.store.record_heads import heads, related


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    place = tmp_path_factory.mktemp("report")
    suite = place / "s.yaml"
    suite.write_text(
        "name: r\nlimit: 20\nbudgets: [full]\ntasks: [digits, photo_regions]\nprotocols: [ridge_probe]\nbackbones:\n"
        "  - {name: raw_pixels, size_px: 2, label: an a}\n  - {name: raw_pixels, size_px: 3, label: boring}\n"
        "  - {name: raw_pixels, size_px: 4, label: c}\n"
    )
    vitbench.run(suite, place / "run")
    return place / "run"


def cells(text):
    return sorted((row["backbone"], row["task"]) for row in csv.DictReader(io.StringIO(text)))


def test_a_part_is_chosen_by_labels(run, tmp_path):
    part = ["--backbone", "an a", "--backbone", "c", "--task", "digits"]
    assert set(cells(command("export", run, *part).stdout)) == {("an a", "digits"), ("c", "digits")}
    assert len(set(cells(command("export", run).stdout))) == 6
    assert command("report", run, *part, "-o", tmp_path / "x.html").returncode == 0
    page = (tmp_path / "x.html").read_text()
    assert "an a" in page
    assert "boring" not in page


def test_what_is_not_there_is_refused_with_the_nearest_label(run, tmp_path):
    said = command("report", run, "--backbone", "an b", "--task", "digit", "-o", tmp_path / "x.html")
    assert said.returncode == 2
    assert "no results of backbone 'an b'" in said.stderr
    assert "did you mean: digits" in said.stderr


def test_a_part_does_not_replace_the_page_of_the_run(run):
    said = command("report", run, "--backbone", "boring")
    assert said.returncode == 2
    assert "add -o FILE.html" in said.stderr


def test_too_many_records_are_refused_before_any_is_loaded(run, tmp_path, monkeypatch):
    """100,000 records would take more than 2 GB."""
    monkeypatch.setattr("vitbench.cli.page_limit.MOST_RECORDS", 5)
    with monkeypatch.context() as patch:
        patch.setattr("vitbench.store.record_file.load_files", None)
        said = command("report", run)
    assert said.returncode == 2
    assert "a page of 6 records" in said.stderr
    (step,) = [line.partition("next:")[2] for line in said.stderr.splitlines() if "next:" in line]
    arguments = shlex.split(step.replace("FILE.html", str(tmp_path / "x.html")))[1:]
    assert command(*arguments).returncode == 0
    assert (tmp_path / "x.html").is_file()


def test_a_run_of_too_many_records_ends_without_a_page(run, monkeypatch):
    monkeypatch.setattr("vitbench.cli.page_limit.MOST_RECORDS", 5)
    page = run / "report.html"
    page.unlink(missing_ok=True)
    said = command("run", run.parent / "s.yaml", "--out", run)
    assert said.returncode == 0
    assert "No leaderboard: a page of 6 records" in said.stderr
    assert not page.exists()


def test_heads_say_what_records_are_of(run):
    found = heads(run)
    records = {record.key: record.job for record in vitbench.load_records(run)}
    assert len(found) == len(records) == 6
    for head in found:
        (job,) = [job for key, job in records.items() if key in head.file]
        assert (head.backbone, head.task) == (job.backbone.label, job.task.label)
        assert head.backbone_digest == job.backbone.digest
    assert {head.backbone for head in related(found, ["boring", "nobody"])} == {"boring"}


def test_a_watched_page_follows_a_run_until_it_is_complete(run, tmp_path, monkeypatch):
    """Records come one by one; the last page does not look for news."""
    place, records = tmp_path / "again", sorted((run / "records").glob("*.json"))
    shutil.copytree(run, place, ignore=shutil.ignore_patterns("report.html", "records"))
    (place / "records").mkdir()
    pages = []

    def another(_):
        if (place / "report.html").exists():
            pages.append((place / "report.html").read_text())
        if records:
            shutil.copy(record := records.pop(), place / "records" / record.name)

    monkeypatch.setattr("vitbench.cli.report_watch.time.sleep", another)
    said = command("report", place, "--watch")
    assert said.returncode == 0, said.stderr
    assert "waiting for the first result" in said.stderr
    assert "1 jobs to come" in said.stderr
    assert len(pages) == 5
    assert all('data-reload="10"' in page for page in pages)
    assert "data-reload" not in (place / "report.html").read_text()


def test_a_watched_page_is_the_page_alone(run, tmp_path):
    said = command("report", run, "--watch", "--figures", tmp_path / "figures")
    assert said.returncode == 2
    assert "--watch writes the page alone" in said.stderr
    assert command("report", tmp_path, "--watch").returncode == 2


def test_a_page_of_several_runs_says_who_measured_what_and_what_twice(run, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(run, other)
    load = vitbench.load_records(run)
    page = render(load, Extras(runs={"first": load, "second": [moved(load[0], -0.25)]}))
    assert "Runs on this page" in page
    assert "Measured more than once" in page
    assert "-25.00" in page
    assert load[0].env.device in page.split('id="runs"')[1]
    assert command("report", run, other, "-o", tmp_path / "both.html").returncode == 0
    both = (tmp_path / "both.html").read_text()
    assert both.count("+0.00") == 6
    assert str(other) in both
    assert "Runs on this page" not in render(load)


def moved(record, by):
    top1 = record.metrics["top1"]
    return record.model_copy(update={"metrics": {"top1": top1.model_copy(update={"value": top1.value + by})}})
