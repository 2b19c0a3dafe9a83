"""Folders of coloured images as further test sets, and records of ImageNet with some."""

import numpy as np
from PIL import Image

from vitbench.core.record import Metric, TestSetFacts
from vitbench.core.wilson import wilson
from vitbench.published.robustness import baseline

COLOURS = {"cat": (200, 60, 60), "dog": (60, 200, 60), "fox": (60, 60, 200)}


def coloured(folder, count, noise, classes=tuple(COLOURS), seed=0):
    """Class folders of images of one colour with noise."""
    rng = np.random.default_rng(seed)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for i in range(count):
            pixels = np.asarray(COLOURS[name]) + rng.normal(0, noise, (9, 9, 3)) + rng.normal(0, noise, 3)
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name / f"{i:03}.png")
    return folder


def three_sets(root):
    """A task's folder `pets`, a noisy test set `night`, and `two`, which lacks a class."""
    coloured(root / "pets" / "train", 12, 40)
    coloured(root / "pets" / "test", 10, 40, seed=1)
    coloured(root / "night", 14, 90, seed=2)
    coloured(root / "two", 9, 90, ("cat", "fox"), seed=3)
    return root


SUITE = """\
name: sets
budgets: [full]
seeds: [0]
backbones: [{{name: raw_pixels, size_px: 8}}]
tasks:
  - {{name: pets, source: folder, path: {root}/pets, test_sets: {{night: {root}/night, two: {root}/two}}}}
protocols: [ridge_probe]
"""


def metric(value, n):
    """A score near a value, with its interval."""
    hits = round(value * n)
    low, high = wilson(hits, n)
    return Metric(value=hits / n, ci_low=low, ci_high=high, n=n)


def on_imagenet(record, label, accuracy, above, family="ViT"):
    """A record of ImageNet with three further test sets, so many points above what a standard model has."""
    task = record.job.task.model_copy(
        update={"name": "imagenet", "label": "imagenet", "options": {}, "contents": {}}
    )
    backbone = record.job.backbone.model_copy(update={"label": label, "options": {"label": label}})
    suite = record.job.suite.model_copy(update={"tasks": ("imagenet",), "seeds": 1})
    job = record.job.model_copy(update={"task": task, "backbone": backbone, "suite": suite, "seed": 0})
    metrics, facts = {"top1": metric(accuracy, 50_000)}, {}
    for name, n in {"v2": 10_000, "r": 30_000, "c": 3_750_000}.items():
        inside = metric(accuracy + 0.08, 10_000) if name == "r" else None
        expected = baseline(name).expected((inside or metrics["top1"]).value)
        metrics[name] = metric(expected + above, n)
        facts[name] = TestSetFacts(
            n=n, classes=200 if inside else 1000, fingerprints={"": name}, in_distribution=inside,
            relative_error=0.7 - above if name == "c" else None,
        )  # fmt: skip
    seen = record.backbone.model_copy(update={"family": family})
    return record.model_copy(
        update={"job": job, "key": job.key, "metrics": metrics, "test_sets": facts, "backbone": seen}
    )
