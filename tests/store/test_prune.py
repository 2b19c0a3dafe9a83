"""`vitbench prune` deletes records that nothing asks for any more, and nothing else."""

import vitbench
from tests.making.command import vitbench as command
from vitbench.engine.run import Overrides, plan_suite, run_suite
from vitbench.store.record_file import load


def test_prune_lists_first_and_deletes_with_yes(tiny, tmp_path):
    out = tmp_path / "run"
    vitbench.run(tiny, out)
    tiny.write_text(tiny.read_text().replace("seeds: [0, 1]", "seeds: [0]"))
    before = sorted(out.rglob("*"))
    listed = command("prune", str(tiny), "--out", str(out))
    assert sorted(out.rglob("*")) == before
    assert "1 records, 3 files would be deleted" in listed.stderr
    command("prune", str(tiny), "--out", str(out), "--yes")
    left = {record.key for record in load(out)}
    assert left == {job.key for job in plan_suite(str(tiny), out, Overrides()).suite.jobs}
    assert run_suite(str(tiny), out).ran == 0


def test_prune_touches_nothing_that_is_not_ours(tiny, tmp_path):
    project = tmp_path / "project"
    (project / "checkpoints").mkdir(parents=True)
    (project / "checkpoints" / "model.pt").write_text("precious")
    done = command("prune", tiny, "--out", project, "--yes")
    assert done.returncode == 2
    assert "is not a run directory (no plan.json)" in done.stderr
    run_suite(str(tiny), project)
    (project / "logs" / "train.log").write_text("mine")
    assert command("prune", tiny, "--out", project, "--yes").returncode == 0
    assert (project / "checkpoints" / "model.pt").read_text() == "precious"
    assert (project / "logs" / "train.log").exists()


def test_pruned_jobs_are_not_asked_for_any_more(suite_file, tmp_path):
    both = "name: few\nlimit: 20\nbackbones: [raw_pixels]\ntasks: [{}]\nprotocols: [ridge_probe]\n"
    suite = suite_file(both.format("digits, photo_regions"))
    run_suite(str(suite), tmp_path / "run")
    suite.write_text(both.format("digits"))
    assert command("prune", suite, "--out", tmp_path / "run", "--yes").returncode == 0
    said = command("status", tmp_path / "run")
    assert "1 jobs: 1 done, 0 failed, 0 running, 0 waiting" in said.stdout
    assert "photo_regions" not in (tmp_path / "run" / "suite.lock.yaml").read_text()
