"""What a number must meet to stand beside others, item by item."""

from __future__ import annotations

from dataclasses import dataclass

from vitbench.api import Provenance
from vitbench.core.job import Job, shots_of
from vitbench.core.record import NOT_LIMITED, READABLE, Check, DataFacts, Metric
from vitbench.data.budgets import TRAIN_1K, VAL_1K


@dataclass(frozen=True)
class Conformance:
    """What a number must meet to stand beside others, item by item."""

    job: Job
    facts: DataFacts
    origin: Provenance
    score: Metric

    def checks(self) -> tuple[Check, ...]:
        """Every item, with the reason where it does not hold."""
        facts, job = self.facts, self.job
        seen = bool(facts.dataset) and facts.dataset in self.origin.trained_on
        return (
            _item(
                NOT_LIMITED, f"each split limited to {job.limit} examples" if job.limit is not None else ""
            ),
            _item(READABLE, f"{len(facts.skipped)} unreadable images left out" if facts.skipped else ""),
            _item("exact N", self._not_exact()),
            _item("split", self._other_split()),
            _item("data as the reference has them", "; ".join(facts.departures)),
            _item("pixels as the weights expect", self.origin.pixel_warning),
            _item(
                "weights have not seen this task's labels",
                f"the weights were trained on {facts.dataset}" if seen else "",
            ),
            # A protocol is given nothing that leads to test (`vitbench.data.sealed`): the runner opens it, once, afterwards.
            _item("selection not on test", ""),
        )

    def _not_exact(self) -> str:
        n = self.score.n
        return "" if n == self.facts.n_test else f"{n} of {self.facts.n_test} test examples are counted"

    def _other_split(self) -> str:
        """Where a budget did not give as many examples as its name says."""
        facts, job = self.facts, self.job
        if job.limit is not None:
            return ""  # said by an item of its own
        if job.budget == "1k" and (facts.n_train, facts.n_val) != (TRAIN_1K, VAL_1K):
            return f"{facts.n_train} + {facts.n_val} examples in place of {TRAIN_1K} + {VAL_1K}"
        wanted = (shots_of(job.budget) or 0) * facts.num_classes
        if wanted and facts.n_train != wanted:
            return f"{facts.n_train} training examples in place of {wanted}: some classes have fewer"
        return ""


def _item(item: str, trouble: str) -> Check:
    return Check(item=item, ok=not trouble, reason=trouble)
