"""Pixels, features and probes on a GPU against the CPU, and a whole suite on both."""

import subprocess
import sys

import numpy as np
import pytest
import torch

import vitbench
from tests.benchmarks.probes import features as made_up
from vitbench.api import EvaluationTransform
from vitbench.compute.environment import settle
from vitbench.core.job import PreprocessName
from vitbench.data.preprocess import apply, preset
from vitbench.protocols import knn, logistic_probe, ridge_probe

settle(None)
SIZES = [(48, 64), (333, 250), (1, 40), (500, 375), (224, 224), (97, 1031), (31, 17), (256, 256)]
PRESETS = PreprocessName.__args__
# Levels of 255: presets that stay in float round as the device does.
LEAST_EQUAL, MOST_OFF = 0.997, 1.0  # measured on an H200: 0.9976 at worst, `fewshot` of one row of pixels


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("shape", SIZES)
def test_pixels_are_the_cpus(name, shape):
    image = np.random.default_rng(shape).integers(0, 256, (*shape, 3), dtype=np.uint8)
    how = preset(name, 64, EvaluationTransform(0.9, "bicubic"))
    here, there = (apply([image], how, device).float().cpu() for device in ("cuda", "cpu"))
    off = (here - there).abs()
    assert off.max() <= MOST_OFF
    assert (off <= 1e-2).float().mean() >= LEAST_EQUAL
    if how.kernel in ("pil", "pil_bicubic", "area"):  # the same integers, or the same sums in the same order
        assert torch.equal(here, there)


def test_probes_are_the_cpus():
    x, y = (torch.from_numpy(part) for part in made_up(1500, 128, 20))
    test, _ = (torch.from_numpy(part) for part in made_up(3000, 128, 20, 1))
    here = ridge_probe.fit(x.cuda(), y.cuda(), 20, ridge_probe.GRID)
    there = ridge_probe.fit(x, y, 20, ridge_probe.GRID)
    for l2 in ridge_probe.GRID:
        assert torch.equal(here.scores(test.cuda(), l2).argmax(1).cpu(), there.scores(test, l2).argmax(1))
    penalties = [1e4, 1.0, 1e-3]
    ours = logistic_probe.fit(x.cuda(), y.cuda(), 20, penalties)
    wanted = logistic_probe.fit(x, y, 20, penalties)
    assert float(ours.relative_gap.max()) <= logistic_probe.TOLERANCE
    for i in range(3):
        same = ours.scores(test.cuda(), i).argmax(1).cpu() == wanted.scores(test, i).argmax(1)
        assert float(same.double().mean()) > 0.999
    for offset in (0.0, 1e4):
        found = knn.neighbours((x + offset).cuda(), (test + offset).cuda(), [20])[1].cpu()
        exact = knn.neighbours((x + offset).double(), (test + offset).double(), [20])[1]
        same_sets = [set(a) == set(b) for a, b in zip(found.tolist(), exact.tolist(), strict=True)]
        assert np.mean(same_sets) > 0.999


SUITE = """\
name: devices
tasks: [digits]
seeds: [0]
backbones:
  - {name: "timm:vit_tiny_patch16_224", pretrained: false, size_px: 32, label: vit}
  - {name: "timm:resnetv2_50x1_bit", pretrained: false, size_px: 32, label: bit}
  - {name: "timm:efficientnet_b0", pretrained: false, size_px: 32, label: effnet}
  - raw_pixels
protocols:
  - {name: ridge_probe, budgets: [5-shot, full]}
  - {name: knn, budgets: [full]}
  - {name: logistic_probe, values: 9, budgets: [full]}
  - {name: finetune, recipe: own, steps: 40, warmup_steps: 5, base_lr: 0.02, batch_size: 64, size_px: 32, budgets: [full],
     backbones: [vit, bit, effnet]}
"""


def test_a_suite_scores_alike_on_both_devices(tmp_path):
    path = tmp_path / "devices.yaml"
    path.write_text(SUITE)
    scores = {}
    for device in ("cpu", "cuda"):
        command = [
            sys.executable,
            "-m",
            "vitbench",
            "run",
            str(path),
            "--out",
            str(tmp_path / device),
            "--device",
            device,
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        scores[device] = {
            (r.job.labels.backbone, r.job.labels.protocol, r.job.labels.budget): r
            for r in vitbench.load_records(tmp_path / device)
        }
    assert scores["cpu"].keys() == scores["cuda"].keys()
    for cell, record in scores["cuda"].items():
        other = scores["cpu"][cell]
        most_off = 0.06 if "finetune" in cell[1] else 0.02
        name = next(iter(record.metrics))
        assert record.metrics[name].value == pytest.approx(other.metrics[name].value, abs=most_off), cell
        assert record.cost.device_kind == "cuda"
        assert record.cost.peak_memory_bytes > 0
        assert record.cost.flops_per_image == other.cost.flops_per_image
