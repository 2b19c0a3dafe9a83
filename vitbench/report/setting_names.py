"""What settings are called on a page: protocols and budgets in words, beside their internal names."""

from __future__ import annotations

from dataclasses import dataclass

from vitbench.core.job import Job, shots_of
from vitbench.report.seeded import NO_TRAINING_DATA

METHODS = {  # of a protocol with its usual label: as a choice, and in a sentence after "N backbones on TASK, "
    "finetune": ("Fine-tuning", "fine-tuned"),
    "ridge_probe": ("Linear probe, ridge regression", "with a linear probe (ridge regression)"),
    "logistic_probe": ("Linear probe, logistic regression", "with a linear probe (logistic regression)"),
    "linear_probe": ("Linear probe, gradient descent", "with a linear probe (gradient descent)"),
    "attentive_probe": ("Attentive probe", "with an attentive probe"),
    "knn": ("k-nearest neighbours", "classified by k-nearest neighbours"),
    "own_head": ("The weights' own classifier", "with the weights' own classifiers"),
}


@dataclass(frozen=True)
class SettingName:
    """A setting in words: its protocol with all but the budget, its budget, and both in a sentence.

    `internal` are the first two by the names of suites and records.
    """

    method: str
    budget: str
    sentence: str
    internal: tuple[str, str]


def setting_parts(job: Job) -> list[str]:
    """What a setting has besides its protocol and budget."""
    parts = []
    if job.limit is not None:
        parts.append(f"limited to {job.limit}")
    if job.resolution_px is not None:
        parts.append(f"{job.resolution_px} px")
    if job.test_resolution_px is not None:
        parts.append(f"tested at {job.test_resolution_px} px")
    return parts


def setting_name(job: Job, mark: str = "") -> SettingName:
    """The name of a job's setting; `mark` tells settings of one name apart."""
    name, label = job.protocol.name, job.protocol.label
    method, verb = METHODS[name] if label == name and name in METHODS else (label, f"with {label}")
    rest = [*setting_parts(job), *([mark] if mark else [])]
    on = "" if name in NO_TRAINING_DATA else f" {_on(job.budget)}"
    sentence = ", ".join([f"{verb}{on}", *rest])
    return SettingName(
        " · ".join([method, *rest]),
        budget_name(job.budget),
        sentence,
        (" · ".join([label, *rest]), job.budget),
    )


def budget_name(budget: str) -> str:
    """A budget in words."""
    shots = shots_of(budget)
    if shots is not None:
        return f"{shots} image{'s' if shots > 1 else ''} per class"
    return {"1k": "1,000 images", "full": "all training images"}.get(budget, budget)


def _on(budget: str) -> str:
    return f"{'with' if shots_of(budget) is not None else 'on'} {budget_name(budget)}"
