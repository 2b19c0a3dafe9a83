"""What a cell of a board opens: its records in short, as JSON that the page carries.

Texts and grids that records share stand once; a cell is named by the key of its first record.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from vitbench.core.job import Component, Job
from vitbench.core.record import Confusion, Cost, Record, Trial
from vitbench.report.keys import component_key, setting_key, task_key

DIGITS = 5  # of fractions: 0.001 points
# Loss curves: points on a page, at some seven bytes each, and of one; of too many curves a cell shows its first seed's alone.
PAGE_POINTS, FEWEST_POINTS, MOST_POINTS = 12_000, 8, 60
MOST_CURVES = 1500
NAME_LENGTH = 10  # of a key: 40 bits tell the cells of a page apart


class Shared:
    """Values that stand once, by number."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self.points = MOST_POINTS  # of a curve
        self._places: dict[str, int] = {}

    def add(self, value: Any) -> int:
        """The number of an equal value, new or known."""
        text = json.dumps(value, sort_keys=True)
        if text not in self._places:
            self._places[text] = len(self.values)
            self.values.append(value)
        return self._places[text]


Worst = Mapping[
    str, Sequence[tuple[str, str, str]]
]  # by cell: images as data, what each is, what it was taken for


def details(records: Sequence[Record], worst: Worst | None = None) -> Markup:
    """JSON of all cells, safe inside a script element: no `<` is left in it."""
    cells: dict[tuple[str, str, str], list[Record]] = defaultdict(list)
    for record in records:
        job = record.job
        cells[setting_key(job), component_key(job.backbone), task_key(record)].append(record)
    for own in cells.values():
        own.sort(key=lambda record: record.job.seed)
    texts, grids = Shared(), Shared()
    grids.points, first_only = _room([[_curves(record) for record in own] for own in cells.values()])
    found = {}
    for own in cells.values():
        first = next((record for record in own if record.status == "ok"), own[0])
        facts = [[texts.add(name), texts.add(text)] for name, text in _facts(first) if text]
        name, job = cell_name(own), first.job
        cell: dict[str, Any] = {
            "title": [texts.add(job.backbone.label), texts.add(job.task.label)],
            "recipe": [texts.add(part) for part in _recipe(job, [record.job.seed for record in own])],
            "facts": facts,
            "seeds": [_seed(r, texts, grids, i == 0 or not first_only) for i, r in enumerate(own)],
        }
        if first.confusion:
            cell["confusion"] = _confusion(first.confusion, texts, grids)
        if worst and name in worst:
            cell["worst"] = worst[name]
        found[name] = cell
    text = json.dumps(
        {"texts": texts.values, "grids": grids.values, "cells": found}, separators=(",", ":"), sort_keys=True
    )
    return Markup(text.replace("<", "\\u003c"))


def _curves(record: Record) -> int:
    return sum(bool(trial.curve.get("step")) for trial in record.trials)


def _room(cells: Sequence[Sequence[int]]) -> tuple[int, bool]:
    """Points for each curve, and whether only first seeds' are shown, given how many curves each seed of each cell has."""
    every, first = sum(map(sum, cells)), sum(seeds[0] for seeds in cells)
    first_only = every > MOST_CURVES
    shown = first if first_only else every
    return min(max(PAGE_POINTS // max(shown, 1), FEWEST_POINTS), MOST_POINTS), first_only


def cell_name(records: Iterable[Record]) -> str:
    """What a cell is called on the page."""
    return min(record.key for record in records)[:NAME_LENGTH]


def _facts(record: Record) -> list[tuple[str, str]]:
    job, backbone, data, env = record.job, record.backbone, record.data, record.env
    known = [
        ("Backbone", _spelled(job.backbone)),
        ("Task", _spelled(job.task)),
        ("Protocol", _spelled(job.protocol)),
        ("Budget", job.budget + (f", limited to {job.limit}" if job.limit is not None else "")),
    ]
    if backbone:
        loaded = f", {backbone.weights_loaded} tensors loaded" if backbone.weights_loaded is not None else ""
        known += [
            ("Weights", f"{backbone.weights}{loaded}, sha256 {backbone.weights_digest[:16]}"),
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
        ("Images", record.preprocess),
        ("Arithmetic", f"{job.dtype}, features stored as {job.feature_dtype}"),
        ("Cost of a seed", _cost(record.cost)),
        *(
            (f"{'✓' if check.ok else '✗'} {check.item}", check.reason or "holds")
            for check in record.conformance
        ),
        ("Software", ", ".join(f"{name} {version}" for name, version in env.packages.items())),
        ("Machine", f"{env.device}, {env.threads} threads, Python {env.python}, {env.platform}"),
        ("Run again", command(job)),
    ]
    return known


def command(job: Job) -> str:
    """The command line for one cell, where its suite still names it."""
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
    passes = f"{cost.images_forward:,} images forward, {cost.images_backward:,} in training"
    if not (cost.images_forward or cost.images_backward):
        passes = "no image: its features were there from other jobs"
    flops = f", {cost.flops_per_image / 1e9:.3g} GFLOP each forward" if cost.flops_per_image else ""
    energy = f", {cost.energy_joules / 3600:.3g} Wh" if cost.energy_joules is not None else ""
    return f"{passes}{flops}, at most {cost.peak_memory_bytes / 2**30:.2f} GiB{energy}, on {cost.device}"


def _recipe(job: Job, seeds: list[int]) -> list[str]:
    """A suite of this cell alone, in four parts: JSON is YAML too."""
    measuring = {name: value for name, value in job.measuring.items() if value is not None}
    head = {"name": "again", "budgets": [job.budget], "seeds": seeds, **measuring}
    axes = (
        {"name": job.backbone.spec, "label": job.backbone.label, **job.backbone.options},
        {"name": job.task.label, "source": job.task.spec, **job.task.options},
        {"name": job.protocol.spec, "label": job.protocol.label, **job.protocol.options},
    )
    lines = [f"{name}: {json.dumps(value, default=str)}" for name, value in head.items()]
    return ["\n".join(lines), *(json.dumps(axis, default=str, ensure_ascii=False) for axis in axes)]


def _confusion(confusion: Confusion, texts: Shared, grids: Shared) -> dict[str, Any]:
    if confusion.matrix:
        return {"classes": grids.add(list(confusion.classes)), "matrix": confusion.matrix}
    return {"mistakes": [[texts.add(true), texts.add(said), n] for true, said, n in confusion.mistakes]}


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
        "seconds": {name: round(value, 2) for name, value in cost.seconds.items()} if cost else {},
    }
    if record.notes:
        seed["notes"] = [texts.add(note) for note in record.notes]
    if record.failure:
        seed["failure"] = texts.add(f"{record.failure.kind}: {record.failure.message}")
    if record.trials:
        seed["trials"] = _trials(record.trials, texts, grids, with_curves)
    return seed


def _trials(every: Sequence[Trial], texts: Shared, grids: Shared, with_curves: bool) -> dict[str, Any]:
    """What selection looked at: the settings (one of the grids), a score each, which was chosen, the worst certificate.

    Loss curves are of all trials and of the last run, which no score chose.
    """
    trials = [trial for trial in every if trial.metric == every[0].metric]
    found: dict[str, Any] = {
        "grid": grids.add([trial.options for trial in trials]),
        "judged": texts.add(f"{trials[0].metric} on {trials[0].split}"),
        "values": [None if trial.value is None else round(trial.value, DIGITS) for trial in trials],
        "chosen": next((i for i, trial in enumerate(trials) if trial.chosen), -1),
    }
    gaps = [gap for trial in trials if (gap := trial.certificate.get("relative_gap")) is not None]
    if gaps:
        found["gap"] = float(f"{max(gaps):.1e}")
    curves = [
        [grids.add(_thinned(steps, grids.points)),
         [None if v is None else float(f"{v:.3g}") for v in _thinned(trial.curve["loss"], grids.points)]]
        for trial in every
        if (steps := trial.curve.get("step"))
    ]  # fmt: skip
    if curves and with_curves:
        found["curves"] = curves
        found["named"] = [grids.add([trial.options]) for trial in every if trial.curve.get("step")]
    noted = {i: texts.add(trial.note) for i, trial in enumerate(trials) if trial.note}
    return {**found, "notes": noted} if noted else found


def _thinned(values: Sequence[float | None], points: int) -> list[float | None]:
    """So many of the values, evenly spaced, the first and the last among them."""
    if len(values) <= points:
        return list(values)
    return [values[round(i * (len(values) - 1) / (points - 1))] for i in range(points)]
