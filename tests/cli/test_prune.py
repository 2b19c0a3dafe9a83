"""`vitbench prune`: what it proposes to delete, and what it never does."""

import pytest

from tests.making.command import vitbench
from vitbench.engine.run import Overrides, plan_suite, run_suite
from vitbench.store.plan_file import read_plan_of
from vitbench.store.record_file import load

BOTH = ("raw_pixels", "mean_colour")
PLUGIN = """\
from torch import nn
from vitbench import register_backbone
from vitbench.api import InputSpec

@register_backbone("mean_colour")
class MeanColour(nn.Module):
    input = InputSpec(size_px=8, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    feature_dim = 3

    def features(self, images):
        return images.mean((2, 3))
"""


def keys(suite, **overrides):
    return {job.key for job in plan_suite(str(suite), None, Overrides(**overrides)).suite.jobs}


def proposed(*arguments):
    """The keys of the records that would be deleted."""
    done = vitbench("prune", *arguments)
    assert done.returncode == 0, done.stderr
    paths = [line.replace("\\", "/") for line in done.stdout.splitlines()]
    return {path.rpartition("/")[2].removesuffix(".json") for path in paths if "/records/" in path}


@pytest.fixture(scope="session")
def plugin(tmp_path_factory):
    """A backbone that no suite has."""
    path = tmp_path_factory.mktemp("plugin") / "mean_colour.py"
    path.write_text(PLUGIN)
    return str(path)


@pytest.fixture
def out(tiny, tmp_path, plugin):
    """A run of the suite and a backbone that was added on the command line."""
    run_suite(str(tiny), tmp_path / "run", Overrides(backbones=BOTH, plugins=[plugin]))
    return tmp_path / "run"


@pytest.fixture
def extra(tiny, plugin):
    """The keys of the jobs of the added backbone."""
    return keys(tiny, backbones=BOTH, plugins=[plugin]) - keys(tiny)


def test_a_lock_file_asks_for_the_same_jobs(out, tiny):
    asked = {row[0] for row in read_plan_of(out)}
    assert keys(out / "suite.lock.yaml") == asked == keys(tiny, backbones=BOTH)


@pytest.mark.parametrize("last", [{}, {"backbones": BOTH[1:]}, {"tasks": ["photo_regions"], "limit": 20}])
def test_added_backbones_are_kept_whatever_was_run_last(out, tiny, last):
    run_suite(str(tiny), out, Overrides(**last))
    assert proposed(out) == proposed("--out", out) == set()


def test_by_its_suite_exactly_the_added_jobs_are_proposed(out, tiny, extra):
    assert len(extra) == 4
    assert proposed(tiny, "--out", out) == extra
    named = [part for name in BOTH for part in ("--backbone", name)]
    assert proposed(tiny, "--out", out, *named) == set()
    assert proposed(out / "suite.lock.yaml", "--out", out) == set()


def test_it_is_narrowed_as_the_run_was(out, tiny, extra):
    kept = keys(tiny, budgets=["full"], seeds=[0], protocols=["knn"])
    narrow = ("--budget", "full", "--seeds", "0", "--protocol", "knn")
    assert proposed(tiny, "--out", out, *narrow) == (keys(tiny) | extra) - kept
    assert vitbench("prune", tiny, "--out", out, *narrow, "--yes").returncode == 0
    assert {record.key for record in load(out)} == kept == {row[0] for row in read_plan_of(out)}


def test_replaced_results_are_proposed_and_deleted(out, tiny, extra):
    old = keys(tiny)
    tiny.write_text(tiny.read_text().replace("size_px: 8", "size_px: 4"))
    assert proposed(out) == set()  # nothing has replaced them yet
    run_suite(str(tiny), out)
    assert proposed(out) == old
    listed = vitbench("prune", out)
    assert f"{len(old)} records, {3 * len(old)} files would be deleted; add --yes" in listed.stderr
    assert vitbench("prune", out, "--yes").returncode == 0
    assert {record.key for record in load(out)} == keys(tiny) | extra
    assert vitbench("prune", out).stderr == "nothing to delete\n"


def test_a_failure_replaces_nothing(out, tiny):
    tiny.write_text(tiny.read_text().replace("size_px: 8", "size_px: 4"))
    result = run_suite(str(tiny), out)
    failure = {"kind": "X", "message": "once"}
    for record in result.records:
        failed = {"status": "failed", "metrics": {}, "failure": failure, "predictions_sha256": ""}
        result.run.write(record.model_validate({**record.model_dump(), **failed}))
    assert proposed(out) == set()


def test_narrowing_needs_a_suite(out):
    done = vitbench("prune", out, "--task", "digits")
    assert done.returncode == 2
    assert f"vitbench prune SUITE --out {out}" in done.stderr


def test_a_directory_that_is_not_a_run_is_refused(tmp_path):
    done = vitbench("prune", tmp_path)
    assert done.returncode == 2
    assert "is not a run directory (no plan.json)" in done.stderr
