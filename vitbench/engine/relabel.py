"""Records from before under the labels that a suite gives now: a key does not depend on labels."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from vitbench.core.job import Job
from vitbench.core.record import Record
from vitbench.engine.plan import RunPlan
from vitbench.store.record_file import load_files
from vitbench.store.run_dir import RunDir

PARTS = ("backbone", "task", "protocol")


def relabelled(plan: RunPlan) -> dict[str, Record]:
    """The records from before under the labels that the suite gives now: a key does not depend on labels."""
    done = dict(plan.done)
    for job in plan.suite.jobs:
        record = done.get(job.key)
        if record is not None and record.job != job:
            done[job.key] = record.model_copy(update={"job": job})
            _relabel(plan.run, job)
    for job in _others_relabelled(plan):
        _relabel(plan.run, job)
    return done


def _others_relabelled(plan: RunPlan) -> Iterator[Job]:
    """The jobs of other records of the run directory that have a component of this plan under another label, relabelled.

    Otherwise one backbone would have two rows in exports, after suites that name it differently.
    """
    keys = {job.key for job in plan.suite.jobs}
    others = [file for file in plan.run.record_files() if file.stem not in keys]
    if not others:
        return
    labels = {
        part: {getattr(job, part).digest: getattr(job, part).label for job in plan.suite.jobs}
        for part in PARTS
    }
    for record in load_files(others, lambda _unreadable: None):
        changed = {
            part: component.model_copy(update={"label": label})
            for part in PARTS
            if (label := labels[part].get((component := getattr(record.job, part)).digest, component.label))
            != component.label
        }
        if changed:
            yield record.job.model_copy(update=changed)


def _relabel(run: RunDir, job: Job) -> None:
    """Rewrite the record that is there now, which may be newer than the planned one, unless another run works on the job."""
    lock = None
    with contextlib.suppress(OSError):  # the directory may be read-only to us
        lock = run.claim(job.key)
    if lock is None:
        return
    try:
        record = run.read(job.key)
        if record is not None:
            run.write(record.model_copy(update={"job": job}))
    finally:
        lock.release()
