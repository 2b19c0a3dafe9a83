"""Details of each cell for the dialog that opens on a click: its records in brief, as JSON embedded in the page.

Texts and grids shared between records are stored once; a cell is named by the key of its first record.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from vitbench.core.format import energy, memory, quantity
from vitbench.core.job import Component, Job
from vitbench.core.metric_names import title_of
from vitbench.core.record import Confusion, Cost, LoadReport, Record, Trial
from vitbench.report.calibration import calibration
from vitbench.report.keys import cells

DIGITS = 5  # of fractions: 0.001 points
# Points of loss curves on a page, at about seven bytes, and on one curve; with too many curves, only first seeds have one.
PAGE_POINTS, FEWEST_POINTS, MOST_POINTS = 12_000, 8, 60
MOST_CURVES = 1500
_MARKS = {True: "✓", False: "✗", None: "?"}  # of a conformance item; None: not known
NAME_LENGTH = 10  # of a key: 40 bits identify a cell of a page


class Shared:
    """Values stored once and referred to by number."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self.points = MOST_POINTS  # per curve
        self._numbers: dict[str | tuple[str], int] = {}

    def add(self, value: Any) -> int:
        """The number of this value, which is stored if it is new."""
        key = (value,) if isinstance(value, str) else json.dumps(value, sort_keys=True)
        if key not in self._numbers:
            self._numbers[key] = len(self.values)
            self.values.append(value)
        return self._numbers[key]


# By cell: images as data URLs, each with its true and its predicted class.
Worst = Mapping[str, Sequence[tuple[str, str, str]]]


def details(
    records: Sequence[Record], worst: Worst | None = None, pairs: Mapping[str, Any] | None = None
) -> Markup:
    """JSON of all cells and of backbones in pairs, safe inside a script element: every `<` is escaped."""
    by_cell = cells(records)
    texts, grids = Shared(), Shared()
    grids.points, first_only = _room([[_curves(record) for record in own] for own in by_cell.values()])
    found = {}
    for own in by_cell.values():
        first = next((record for record in own if record.status == "ok"), own[0])
        facts = [[texts.add(name), texts.add(text)] for name, text in _facts(first) if text]
        name, job = cell_name(own), first.job
        cell: dict[str, Any] = {
            "title": [texts.add(job.backbone.label), texts.add(job.task.label)],
            "recipe": [texts.add(part) for part in _recipe(job, [record.job.seed for record in own])],
            "facts": facts,
            "seeds": [_seed(r, texts, grids, i == 0 or not first_only) for i, r in enumerate(own)],
        }
        cell |= calibration(own)
        if first.confusion:
            cell["confusion"] = _confusion(first.confusion, texts, grids)
        if worst and name in worst:
            cell["worst"] = worst[name]
        found[name] = cell
    whole = {"texts": texts.values, "grids": grids.values, "cells": found, "pairs": pairs or {}}
    text = json.dumps(whole, separators=(",", ":"), sort_keys=True)
    return Markup(text.replace("<", "\\u003c"))


def _curves(record: Record) -> int:
    return sum(map(_has_curve, record.trials))


def _has_curve(trial: Trial) -> bool:
    """Whether it has a loss for each of its steps: a plugin may record other series."""
    steps = trial.curve.get("step", ())
    return bool(steps) and len(steps) == len(trial.curve.get("loss", ()))


def _room(cells: Sequence[Sequence[int]]) -> tuple[int, bool]:
    """Points per curve, and whether only first seeds have curves, given the number of curves by cell and seed."""
    every, first = sum(map(sum, cells)), sum(seeds[0] for seeds in cells)
    first_only = every > MOST_CURVES
    shown = first if first_only else every
    return min(max(PAGE_POINTS // max(shown, 1), FEWEST_POINTS), MOST_POINTS), first_only


def cell_name(records: Iterable[Record]) -> str:
    """The name of a cell on the page: the start of its first record's key."""
    return min(record.key for record in records)[:NAME_LENGTH]


def _facts(record: Record) -> list[tuple[str, str]]:
    """What the dialog lists under Details, (name, text) each."""
    job, backbone, data, env = record.job, record.backbone, record.data, record.env
    known = [
        ("Backbone", _spelled(job.backbone)),
        ("Task", _spelled(job.task)),
        ("Protocol", _spelled(job.protocol)),
        ("Budget", job.budget + (f", limited to {job.limit}" if job.limit is not None else "")),
    ]
    if backbone:
        loaded = f", {backbone.load.used} tensors loaded" if backbone.load else ""
        known += [
            ("Weights", f"{backbone.weights}{loaded}, sha256 {backbone.weights_digest[:16]}"),
            *_load(backbone.load),
            ("Pre-training data", backbone.pretrain_data),
            ("Source", backbone.source),
            ("Licence", backbone.licence),
        ]
    if data:
        sizes = f"{data.n_train} train, {data.n_val} validation, {data.n_test} test"
        version = " ".join(part for part in (data.dataset, data.version) if part)
        known.append(("Data", f"{version}: {sizes}" if version else sizes))
        known += [(f"Data, {split}", f"sha256 {digest[:16]}") for split, digest in data.fingerprints.items()]
    known += [
        ("Preprocessing", record.preprocess),
        ("Precision", f"{job.dtype}, features stored as {job.feature_dtype}"),
        ("Cost per seed", _cost(record.cost)),
        ("Device-seconds", _device_seconds(record.cost)),
        *((f"{_MARKS[check.ok]} {check.item}", check.reason or "holds") for check in record.conformance),
        ("Software", ", ".join(f"{name} {version}" for name, version in env.packages.items())),
        ("Hardware", f"{env.device}, {env.threads} threads, Python {env.python}, {env.platform}"),
        ("Command", command(job)),
    ]
    return known


def _load(load: LoadReport | None) -> list[tuple[str, str]]:
    """What became of the checkpoint's other arrays."""
    if load is None:
        return []
    return [
        ("Checkpoint, taken", load.taken),
        ("Checkpoint, left out", ", ".join(load.left_out)),
        ("Checkpoint, not used", ", ".join(load.unused)),
        ("Not in the checkpoint", ", ".join(load.initialised)),
    ]


def command(job: Job) -> str:
    """The command that runs one cell again, if its suite still contains it."""
    parts = [
        f"vitbench run {job.suite.name}",
        f"--backbone {job.backbone.spec}",
        f"--task {job.task.spec}",
        f"--protocol {job.protocol.spec}",
        f"--budget {job.budget}",
        f"--seeds {job.seed}",
    ]
    return " ".join(parts + ([f"--limit {job.limit}"] if job.limit is not None else []))


def _cost(cost: Cost | None) -> str:
    if cost is None:
        return ""
    passes = f"images: {cost.images_forward:,} forward, {cost.images_backward:,} backward"
    shared = sum(each.images for each in cost.extractions or () if each.shared)
    again = f" ({shared:,} of them by an earlier job, whose features this one uses)" if shared else ""
    flops = f", {quantity(cost.flops_per_image, 'FLOPs')} per image" if cost.flops_per_image else ""
    used = f", {energy(cost.energy_joules)}" if cost.energy_joules is not None else ""
    where = f"{cost.devices} × {cost.device}" if cost.devices > 1 else cost.device
    return f"{passes}{again}{flops}, peak memory {memory(cost.peak_memory_bytes)}{used}, on {where}"


def _device_seconds(cost: Cost | None) -> str:
    """The cost in device-seconds: all of it, by phase, and what does not count."""
    if cost is None:
        return ""
    total = f"{'' if cost.is_known else 'at least '}{cost.least_device_seconds:.2f}"
    shared = cost.shared_device_seconds
    parts = [
        f"{total} s"
        + (f", {shared:.2f} s of it for features that an earlier job extracted" if shared else "")
    ]
    if cost.core_seconds is not None:
        parts.append(f"{cost.core_seconds:.2f} core-seconds")
    if cost.overhead:
        parts.append("not counted: " + ", ".join(f"{name} {s:.2f} s" for name, s in cost.overhead.items()))
    return "; ".join(parts)


def _recipe(job: Job, seeds: list[int]) -> list[str]:
    """A suite of this cell alone, in four parts of JSON, which is also YAML."""
    measuring = {name: value for name, value in job.measuring.items() if value is not None}
    head = {"name": "again", "budgets": [job.budget], "seeds": seeds, **measuring}
    axes = (
        {"name": job.backbone.spec, "label": job.backbone.label, **job.backbone.options},
        {"name": job.task.label, "source": job.task.spec, **_asked_metric(job), **job.task.options},
        {"name": job.protocol.spec, "label": job.protocol.label, **job.protocol.options},
    )
    lines = [f"{name}: {json.dumps(value, default=str)}" for name, value in head.items()]
    return ["\n".join(lines), *(json.dumps(axis, default=str, ensure_ascii=False) for axis in axes)]


def _asked_metric(job: Job) -> dict[str, str]:
    return {"metric": job.suite.metric} if job.suite.metric else {}


def _confusion(confusion: Confusion, texts: Shared, grids: Shared) -> dict[str, Any]:
    if confusion.matrix:
        return {"classes": grids.add(list(confusion.classes)), "matrix": confusion.matrix}
    return {
        "mistakes": [[texts.add(true), texts.add(predicted), n] for true, predicted, n in confusion.mistakes]
    }


def _spelled(component: Component) -> str:
    options = ", ".join(f"{name}: {value}" for name, value in component.options.items())
    return f"{component.spec} {{{options}}}, version {component.version}"


def _seed(record: Record, texts: Shared, grids: Shared, with_curves: bool) -> dict[str, Any]:
    cost = record.cost
    seed: dict[str, Any] = {
        "seed": record.job.seed,
        "key": record.key,
        "created": texts.add(record.created[:10]),
        "scores": [
            [texts.add(name), *(round(v, DIGITS) for v in (m.value, m.ci_low, m.ci_high)), m.n]
            for name, m in record.metrics.items()
        ],
        "seconds": round(cost.least_device_seconds, 2) if cost else None,
    }
    if record.further:
        seed["further"] = _further(record, texts, grids)
    if record.notes:
        seed["notes"] = [texts.add(note) for note in record.notes]
    if record.failure:
        seed["failure"] = texts.add(f"{record.failure.kind}: {record.failure.message}")
    if record.trials:
        seed["trials"] = _trials(record.trials, texts, grids, with_curves)
    return seed


def _further(record: Record, texts: Shared, grids: Shared) -> list[Any]:
    """Metrics beside the task's own: what they are, shared by many records, then the value and the interval of each."""
    found = record.further.items()
    kinds = [
        [texts.add(title_of(name)), int(name != "nll"), texts.add(metric.note)] for name, metric in found
    ]
    values = [[metric.value, metric.ci_low, metric.ci_high] for _, metric in found]
    known = [own if own[1] is not None else own[:1] for own in values]
    return [grids.add(kinds), *([None if v is None else round(v, DIGITS) for v in own] for own in known)]


def _trials(every: Sequence[Trial], texts: Shared, grids: Shared, with_curves: bool) -> dict[str, Any]:
    """The trials of hyper-parameter selection: the settings (a grid), their scores, the chosen one, the largest optimality gap.

    Loss curves include the final run, which has no validation score.
    """
    trials = [trial for trial in every if trial.metric == every[0].metric]
    found: dict[str, Any] = {
        "grid": grids.add([trial.options for trial in trials]),
        "judged": texts.add(_judged(trials[0])),
        "values": [None if trial.value is None else round(trial.value, DIGITS) for trial in trials],
        "chosen": next((i for i, trial in enumerate(trials) if trial.chosen), -1),
    }
    gaps = [gap for trial in trials if (gap := trial.certificate.get("relative_gap")) is not None]
    if gaps:
        found["gap"] = _short(max(gaps), 2)
    drawn = [trial for trial in every if _has_curve(trial)]
    if drawn and with_curves:
        found["curves"] = [
            [grids.add(_thinned(trial.curve["step"], grids.points)),
             [None if v is None else _short(v, 3) for v in _thinned(trial.curve["loss"], grids.points)]]
            for trial in drawn
        ]  # fmt: skip
        found["named"] = [grids.add([trial.options]) for trial in drawn]
    noted = {i: texts.add(trial.note) for i, trial in enumerate(trials) if trial.note}
    return {**found, "notes": noted} if noted else found


def _short(value: float, digits: int) -> float:
    """A number rounded to so many digits, unless that made it infinite, which JSON cannot hold."""
    rounded = float(f"{value:.{digits}g}")
    return rounded if math.isfinite(rounded) else value


def _judged(trial: Trial) -> str:
    """The criterion of selection, such as `validation accuracy`."""
    split = {"val": "validation", "train": "training"}[trial.split]
    return f"{split} {'accuracy' if trial.metric == 'top1' else trial.metric}"


def _thinned(values: Sequence[float | None], points: int) -> list[float | None]:
    """At most this many of the values, evenly spaced, including the first and the last."""
    if len(values) <= points:
        return list(values)
    return [values[round(i * (len(values) - 1) / (points - 1))] for i in range(points)]
