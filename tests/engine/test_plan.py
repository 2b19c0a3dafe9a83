"""Planning over records that are there already."""

from vitbench.engine.relabel import relabelled
from vitbench.engine.run import Overrides, plan_suite, run_suite
from vitbench.store.run_dir import RunDir


def test_new_labels_are_put_on_the_newest_records(tiny, tmp_path):
    """A run that has planned by an older record does not bring it back; one that works on a job keeps it to itself."""
    run_suite(str(tiny), tmp_path / "run")
    run = RunDir(tmp_path / "run")
    planned = plan_suite(str(tiny), tmp_path / "run", Overrides(settings=["name=renamed"]))
    first, second = (run.read(job.key) for job in planned.suite.jobs[:2])
    newer = run.write(first.model_copy(update={"notes": ("newer",)}), run.predictions(first))
    with run.claim(second.key):
        relabelled(planned)
        assert run.read(second.key) == second
    assert run.read(first.key).notes == ("newer",)
    assert run.read(first.key).job.suite.name == "renamed"
    assert run.is_whole(newer)
