"""The conformance list: what must hold for a score to be compared with others. To add an item, add it to ITEMS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vitbench.core.errors import VitbenchError
from vitbench.core.job import Job, shots_of
from vitbench.core.record import Check, DataFacts, Metric
from vitbench.core.registry import PROTOCOLS

# VTAB-1k: the first 800 stored examples of train, the first 200 of val (docs/protocols.md#vtab-1k).
TRAIN_1K = 800
VAL_1K = 200


@dataclass(frozen=True)
class Evidence:
    """What the items are judged by: a job, its data and score, and what is known of the weights.

    `trained_on` are data sets whose labels the weights were trained on, None if that is not known; `pixel_warning` says why
    pixels are not normalised as they were then, `pixels_unknown` why nobody can tell.
    """

    job: Job
    data: DataFacts
    score: Metric
    trained_on: tuple[str, ...] | None = ()
    pixel_warning: str = ""
    pixels_unknown: str = ""


@dataclass(frozen=True)
class Unknown:
    """Why it is not known whether an item holds."""

    reason: str


def conformance(evidence: Evidence) -> tuple[Check, ...]:
    """Every item, with the reason where it does not hold or is not known to."""
    return tuple(_judged(item, check(evidence)) for item, check in ITEMS.items())


def _judged(item: str, found: str | Unknown) -> Check:
    if isinstance(found, Unknown):
        return Check(item=item, ok=None, reason=found.reason)
    return Check(item=item, ok=not found, reason=found)


def _limited(evidence: Evidence) -> str:
    limit = evidence.job.limit
    return f"each split limited to {limit} examples" if limit is not None else ""


def _unreadable(evidence: Evidence) -> str:
    skipped = evidence.data.skipped
    return f"{len(skipped)} unreadable images left out" if skipped else ""


def _not_exact(evidence: Evidence) -> str:
    n, wanted = evidence.score.n, evidence.data.n_test
    return "" if n == wanted else f"{n} of {wanted} test examples are counted"


def _other_split(evidence: Evidence) -> str:
    """A budget that did not give as many examples as its name says."""
    data, job = evidence.data, evidence.job
    if job.limit is not None:
        return ""  # an item of its own
    if job.budget == "1k" and (data.n_train, data.n_val) != (TRAIN_1K, VAL_1K):
        return f"{data.n_train} + {data.n_val} examples instead of {TRAIN_1K} + {VAL_1K}"
    wanted = (shots_of(job.budget) or 0) * data.num_classes
    if wanted and data.n_train != wanted:
        return f"{data.n_train} training examples instead of {wanted}: some classes have fewer"
    return ""


def _labels_seen(evidence: Evidence) -> str | Unknown:
    dataset = evidence.data.dataset
    if _is_made_of_them(evidence.job):
        return ""
    if evidence.trained_on is None:
        return Unknown("nobody has said which labels the weights were trained on: state `trained_on`")
    return f"the weights were trained on {dataset}" if dataset and dataset in evidence.trained_on else ""


def _is_made_of_them(job: Job) -> bool:
    """Whether the protocol scores the classifier that came with the weights, which was trained on such labels."""
    try:
        entry, _ = PROTOCOLS.get(job.protocol.spec)
    except VitbenchError:
        return False
    return entry.labels.get("trained_by") == "the weights' authors"


def _duplicates(evidence: Evidence) -> str | Unknown:
    """Images in two splits."""
    data = evidence.data
    if data.duplicates is None:
        return Unknown("the splits were not compared: run the job again with this version")
    found = data.duplicates.text
    if found and data.dataset and not data.departures:
        return Unknown(f"{found}; whether the release itself has them is not known")
    return found


def _protocol(evidence: Evidence) -> str | Unknown:
    """How the job departs from its protocol's reference."""
    asked = evidence.job.protocol
    try:
        _, protocol = PROTOCOLS.make(asked.spec, asked.options)
    except VitbenchError:
        return Unknown(f"there is no protocol {asked.spec!r} with these options here")
    found = protocol.departures(evidence.job)
    return Unknown("the protocol follows no reference") if found is None else "; ".join(found)


def _pixels(evidence: Evidence) -> str | Unknown:
    if evidence.pixels_unknown and not evidence.pixel_warning:
        return Unknown(evidence.pixels_unknown)
    return evidence.pixel_warning


NOT_LIMITED, READABLE = "not limited", "every image readable"  # the page has a notice of its own for these
ITEMS: dict[str, Callable[[Evidence], str | Unknown]] = {
    NOT_LIMITED: _limited,
    READABLE: _unreadable,
    "exact N": _not_exact,
    "split": _other_split,
    "data as the reference has them": lambda evidence: "; ".join(evidence.data.departures),
    "no image in two splits": _duplicates,
    "protocol as its reference has it": _protocol,
    "pixels as the weights expect": _pixels,
    "weights have not seen this task's labels": _labels_seen,
    # A protocol is given nothing that leads to test (vitbench.data.sealed): the engine opens it once, afterwards.
    "selection not on test": lambda _evidence: "",
}
