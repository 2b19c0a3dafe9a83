"""Results as the `model-index` of a Hugging Face model card: YAML for the head of a README.md, one entry per backbone."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

import yaml

from vitbench.core.format import printable
from vitbench.core.metric_names import title_of
from vitbench.core.record import Record
from vitbench.report.keys import component_key, distinct_labels
from vitbench.report.shown_metric import main_metric_name, value_of

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

TASK = "image-classification"
SOURCE = "vitbench"


def model_card(records: Sequence[Record]) -> str:
    """The YAML text: for each backbone and data set, the mean over seeds in percent of every protocol and budget.

    Results without a score are named in a comment, for a card has no place for them.
    """
    from huggingface_hub import EvalResult
    from huggingface_hub.repocard_data import eval_results_to_model_index

    labels = distinct_labels((component_key(r.job.backbone), r.job.backbone.label) for r in records)
    models: dict[str, list[EvalResult]] = {}
    for cell in _cells(records):
        done = [record for record in cell if _has_score(record)]
        if done:
            models.setdefault(labels[component_key(cell[0].job.backbone)], []).append(
                _result(done, EvalResult)
            )
    index = [
        entry for label, results in models.items() for entry in eval_results_to_model_index(label, results)
    ]
    without = [printable(" ".join(record.job.title.split())) for record in records if not _has_score(record)]
    comments = "".join(f"# no score: {title}\n" for title in without)
    return comments + yaml.safe_dump({"model-index": index}, sort_keys=False, allow_unicode=True)


def _has_score(record: Record) -> bool:
    return record.status == "ok" and value_of(record) is not None


def _cells(records: Sequence[Record]) -> list[list[Record]]:
    """The records of each backbone, task, protocol and budget, over seeds."""
    found: dict[tuple[str, ...], list[Record]] = {}
    for record in records:
        job = record.job
        key = (component_key(job.backbone), component_key(job.task), component_key(job.protocol), job.budget)
        found.setdefault(key, []).append(record)
    return list(found.values())


def _result(done: Sequence[Record], kind: type[EvalResult]) -> EvalResult:
    """The result of one cell."""
    first, metric = done[0], main_metric_name(done[0]) or ""
    values = [100 * score.value for record in done if (score := value_of(record))]
    job, data = first.job, first.data
    args: dict[str, object] = {"protocol": job.protocol.label, "budget": job.budget, "seeds": len(values)}
    if len(values) > 1:
        args["standard_deviation"] = round(statistics.stdev(values), 2)
    elif score := value_of(first):
        args |= {"interval_95": [round(100 * bound, 2) for bound in score.interval or ()]}
    over = f"mean of {len(values)} seeds" if len(values) > 1 else "one run"
    return kind(
        task_type=TASK,
        dataset_type=(data.dataset if data else "") or job.task.label,
        dataset_name=job.task.label,
        dataset_split="test",
        dataset_revision=(data.version if data else "") or None,
        metric_type="accuracy",
        metric_value=round(statistics.fmean(values), 2),
        metric_name=f"{title_of(metric)}, %: {job.protocol.label}, {job.budget}, {over}",
        metric_args=args,
        source_name=SOURCE if (homepage := _homepage()) else None,
        source_url=homepage,
    )


def _homepage() -> str | None:
    """The project's address, as its package states it."""
    from importlib.metadata import metadata

    addresses = metadata("vitbench").get_all("Project-URL") or []
    return next((text.partition(", ")[2] for text in addresses if text.startswith("Homepage")), None)
