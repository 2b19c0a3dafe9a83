"""Backbones that cannot be built: each is tried once, before long work on others, and costs all its jobs at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vitbench.backbones.build import build
from vitbench.core.errors import StorageError, is_full
from vitbench.core.job import Job, backbone_key
from vitbench.engine.outcome import Outcome, failed


def unbuildable(jobs: Sequence[Job], device: str) -> Iterator[tuple[Job, Outcome]]:
    """Build each of several backbones once, on the CPU, and yield the first job of those that fail, with the outcome.

    A single backbone is not tried: its first job tells as soon.
    """
    first = {backbone_key(job): job for job in reversed(jobs)}
    if len(first) < 2 or len(first) == len(jobs):
        return
    for job in first.values():
        try:
            build(job.backbone.spec, job.backbone.options, job.backbone.label, job.resolution_px)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            if is_full(error):
                raise StorageError(
                    f"{job.title}: {error}; free some space, then run the same command again"
                ) from error
            yield job, Outcome(failed(job, device, error, "build"))


def same_failure(job: Job, outcome: Outcome) -> Outcome:
    """The outcome of another job of a backbone that cannot be built."""
    return Outcome(outcome.record.model_copy(update={"key": job.key, "job": job}))


def cannot_be_built(outcome: Outcome) -> bool:
    """Whether a job failed because its backbone could not be built, or did not pass the checks of its first use."""
    failure = outcome.record.failure
    return failure is not None and failure.phase == "build"
