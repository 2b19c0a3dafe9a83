"""Order and shards of jobs, and the queue: every job is given out once, and no features are extracted twice."""

import pytest

from vitbench.core.errors import UsageError
from vitbench.engine.queue import JobQueue
from vitbench.engine.run import Overrides, plan_suite
from vitbench.engine.schedule import ordered, read_shard, shard, shared_work
from vitbench.store.run_dir import RunDir
from vitbench.store.time_left import TimeLeft

SUITE = """\
name: many
seeds: [0, 1]
budgets: [2-shot, full]
backbones: [{name: raw_pixels, size_px: 2, label: a}, {name: raw_pixels, size_px: 3, label: b}]
tasks: [digits, photo_regions]
protocols: [ridge_probe, {name: finetune, backbones: [b], tasks: [digits]}]
"""


@pytest.fixture
def jobs(suite_file, tmp_path):
    return plan_suite(str(suite_file(SUITE)), tmp_path / "run", Overrides()).suite.jobs


def test_long_jobs_first_and_those_that_share_features_together(jobs):
    found = ordered(jobs)
    assert sorted(job.key for job in found) == sorted(job.key for job in jobs)
    kinds = [job.protocol.name for job in found]
    assert kinds == sorted(kinds)  # all of finetune before any of ridge_probe
    groups = [shared_work(job) for job in found]
    assert len(set(groups)) == sum(1 for i, group in enumerate(groups) if i == 0 or groups[i - 1] != group)
    by_group = {}
    for job in found:
        by_group.setdefault(shared_work(job), []).append(job.budget)
    assert all(
        budgets == sorted(budgets, reverse=True) for budgets in by_group.values()
    )  # full before 2-shot


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_shards_are_disjoint_even_and_complete(jobs, count):
    shards = [shard(jobs, (i, count)) for i in range(1, count + 1)]
    assert sorted(job.key for part in shards for job in part) == sorted(job.key for job in jobs)
    sizes = [len(part) for part in shards]
    assert max(sizes) <= len(jobs) / count + max(len(jobs) // count, 1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0/4", "between 1 and 4"),
        ("5/4", "between 1 and 4"),
        ("2", "form I/N"),
        ("-1/2", "I/N"),
        ("²/3", "I/N"),
    ],
)
def test_a_shard_that_does_not_exist_is_refused(text, said):
    with pytest.raises(UsageError, match=said):
        read_shard(text)


def test_no_two_workers_compute_the_same_features_while_there_is_other_work(jobs, tmp_path):
    probes = [job for job in jobs if job.protocol.name == "ridge_probe"]
    queue = JobQueue(RunDir(tmp_path), {}, probes)
    first, second, third, fourth = (queue.single.take("here") for _ in range(4))
    assert len({shared_work(job) for job in (first, second, third, fourth)}) == 4
    queue.finished(third)
    assert shared_work(queue.single.take("here")) == shared_work(third)  # its features are cached here now
    queue.release()


def test_a_job_goes_where_its_features_are(jobs, tmp_path):
    probes = [job for job in jobs if job.protocol.name == "ridge_probe"]
    queue = JobQueue(RunDir(tmp_path), {}, probes)
    here, there = queue.single.take("here"), queue.single.take("there")
    queue.finished(here)
    queue.finished(there)
    for _ in range(2):
        job = queue.single.take("there")
        assert shared_work(job) == shared_work(there)
        queue.finished(job)
    assert shared_work(queue.single.take("here")) == shared_work(here)
    queue.release()


def test_every_job_is_given_out_once_and_held_ones_are_waited_for(jobs, tmp_path):
    run = RunDir(tmp_path)
    held = run.claim(jobs[0].key)
    queue = JobQueue(run, {}, jobs)
    taken = []
    while not isinstance(job := queue.take(), str):
        taken.append(job.key)
        queue.finished(job)
    assert sorted(taken) == sorted(job.key for job in jobs[1:])
    held.release()
    last = queue.take()
    assert last.key == jobs[0].key
    queue.finished(last)
    assert queue.take() is None


def test_the_time_left_is_that_of_jobs_like_those_to_come(tiny_records):
    record = tiny_records[0]
    assert TimeLeft().remaining_s([record.job.labels], 1) is None
    costs = [
        record.cost.model_copy(update={"seconds": {"adapt": s}, "extractions": (), "overhead": {}})
        for s in (1.0, 3.0)
    ]
    known = TimeLeft(record.model_copy(update={"cost": cost}) for cost in costs)
    assert known.remaining_s([record.job.labels] * 4, 2) == pytest.approx(4.0)
    other = record.job.labels._replace(backbone="another")
    assert known.seconds(other) == pytest.approx(2.0)
