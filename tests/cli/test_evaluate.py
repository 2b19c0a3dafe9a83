"""`vitbench.evaluate`: a module in memory, known by what it computes, and left as it was."""

import json
import random

import numpy as np
import pytest
import torch
from torch import nn

import vitbench
from vitbench.core.errors import UsageError
from vitbench.core.registry import BACKBONES
from vitbench.store.record_file import load

HOW = {"tasks": ["digits"], "budgets": ["2-shot"], "limit": 60, "quiet": True}
PIXELS = {"size_px": 8, "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}


class Net(nn.Module):
    def __init__(self, width=6, power=1):
        super().__init__()
        self.power = power
        self.body = nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.Dropout(0.5), nn.ReLU())
        for weight in self.parameters():
            nn.init.normal_(weight, std=0.3, generator=torch.Generator().manual_seed(1))

    def forward(self, images):
        return self.body(images).flatten(1) ** self.power


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VITBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path


def values(results):
    return {record.job.protocol.name: record.metrics["top1"].value for record in results.records}


def test_it_scores_as_a_registered_plugin_does(folder):
    (folder / "net.py").write_text(
        "from tests.cli.test_evaluate import Net, PIXELS\nfrom vitbench import register_backbone\n"
        "from vitbench.api import InputSpec\n\n@register_backbone('net')\nclass Registered(Net):\n"
        "    input, feature_dim = InputSpec(*PIXELS.values()), 216\n"
        "    def features(self, images):\n        return self(images)\n"
    )
    found = vitbench.evaluate(Net(), **HOW, **PIXELS)
    wanted = vitbench.evaluate("net", **HOW, plugins=["net.py"], out="runs/plugin")
    assert values(found) == values(wanted)
    assert len(found.records) == 2


def seed_all():
    torch.manual_seed(3)
    np.random.seed(4)  # noqa: NPY002  users' own code may
    random.seed(5)


def drawn():
    return torch.rand(2).tolist(), np.random.rand(2).tolist(), random.random()  # noqa: NPY002


def test_the_module_and_all_random_streams_are_as_before(folder):
    module = Net().train()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    seed_all()
    wanted = drawn()
    seed_all()
    threads = torch.get_num_threads()
    with torch.no_grad():
        vitbench.evaluate(
            module, **HOW, **PIXELS, protocols=[{"name": "finetune", "recipe": "own", "steps": 2, "warmup_steps": 0,
            "base_lr": 0.1, "batch_size": 8}, "knn"]
        )  # fmt: skip
    assert drawn() == wanted
    assert torch.get_num_threads() == threads
    assert all(inner.training for inner in module.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert all(weight.grad is None for weight in module.parameters())
    assert "module" not in [entry.name for entry in BACKBONES.entries()]


def keys(module, **how):
    return {record.key for record in vitbench.evaluate(module, **{**HOW, **PIXELS, **how}).records}


def with_weight(module):
    with torch.no_grad():
        module.body[0].weight[0, 0, 0, 0] += 1e-3
    return module


def with_buffer(module):
    module.body[1].running_mean += 0.1
    return module


def with_setting(module):
    module.body[1].eps = 1e-3
    return module


@pytest.mark.slow
def test_it_is_known_by_what_it_computes(folder):
    scale = 1.0
    same = keys(Net())
    assert keys(Net().train()) == keys(Net().double().float()) == same
    shifted = keys(Net(), features=lambda m, x: m(x) + scale)
    scale = 2.0
    others = [
        keys(with_weight(Net())),
        keys(with_buffer(Net())),
        keys(with_setting(Net())),
        keys(Net(power=2)),
        keys(Net(), features=lambda m, x: m(x)[:, :9]),
        shifted,
        keys(Net(), features=lambda m, x: m(x) + scale),
        keys(Net(), std=(0.2, 0.2, 0.2)),
    ]
    assert len(same.union(*others)) == 2 * (1 + len(others))


def test_the_same_call_runs_nothing_again(folder):
    module = Net()
    first = vitbench.evaluate(module, **HOW, **PIXELS)
    created = {record.key: record.created for record in first.records}
    again = vitbench.evaluate(module, **HOW, **PIXELS)
    assert {record.key: record.created for record in again.records} == created
    assert {record.key for record in load(folder / "runs" / "evaluate")} == set(created)


def test_a_job_that_was_killed_runs_here_again(folder):
    first = vitbench.evaluate(Net(), **HOW, **PIXELS)
    (record, _) = first.records
    run = folder / "runs" / "evaluate"
    (run / "records" / f"{record.key}.json").unlink()
    (run / ".running").mkdir(exist_ok=True)
    import socket

    beat = {"key": record.key, "title": "t", "phase": "adapt", "done": 0, "total": 0, "host": socket.gethostname(),
            "pid": 2**22 + 1, "device": "cpu", "started_s": 0.0, "seen_s": 0.0}  # fmt: skip
    (run / ".running" / f"{record.key}.json").write_text(json.dumps(beat))
    again = vitbench.evaluate(Net(), **HOW, **PIXELS)
    assert values(again) == values(first)


def test_features_of_another_kind_are_refused_with_what_to_write(folder):
    with pytest.raises(
        UsageError, match=r"gives a tensor \(1, 6, 6, 6\) for one image(.|\n)*features=lambda"
    ):
        vitbench.evaluate(Net().body, **HOW, **PIXELS)
    found = vitbench.evaluate(Net().body, **HOW, **PIXELS, features=lambda m, x: m(x).flatten(1))
    assert values(found) == values(vitbench.evaluate(Net(), **HOW, **PIXELS))


def test_pixels_that_nobody_states_are_asked_for(folder):
    with pytest.raises(UsageError, match="mean, std missing"):
        vitbench.evaluate(Net(), **HOW, size_px=8)
    import timm

    network = timm.create_model("resnet18", num_classes=0)
    with pytest.raises(UsageError, match="in this process: leave out `workers`"):
        vitbench.evaluate(network, **HOW, workers=2)
    (record, _) = vitbench.evaluate(network, **HOW, size_px=32).records
    assert record.backbone.mean == pytest.approx((0.485, 0.456, 0.406))
    assert record.backbone.size_px == 32


def test_wrapped_modules_are_unwrapped(folder):
    assert keys(nn.DataParallel(Net())) == keys(Net())
    assert keys(torch.compile(Net())) == keys(Net())


class Scaled(nn.Module):
    """A module of the user's own that looks like a wrapper and is none."""

    def __init__(self):
        super().__init__()
        self.module = Net()

    def forward(self, images):
        return self.module(images)[:, :9] * 2


def test_a_module_that_only_looks_like_a_wrapper_is_itself(folder):
    found = vitbench.evaluate(Scaled(), **HOW, **PIXELS)
    assert {record.backbone.feature_dim for record in found.records} == {9}


def test_results_are_a_table_a_frame_a_page_and_records(folder):
    found = vitbench.evaluate(Net(), **HOW, **PIXELS, seeds=[0, 1], label="mine")
    assert "mine" in str(found)
    assert "±" in found._repr_html_()
    assert set(found.table()["backbone"]) == {"mine"}
    page = found.report("mine.html")
    assert "mine" in page.read_text(encoding="utf-8")


def test_named_backbones_are_evaluated_too(folder):
    found = vitbench.evaluate(
        "raw_pixels,size_px=4", ["digits"], budgets=["2-shot"], limit=60, quiet=True, label="pixels"
    )
    assert {record.job.backbone.label for record in found.records} == {"pixels"}
    assert vitbench.evaluate({"name": "raw_pixels"}, **HOW).records[0].status == "ok"
    with pytest.raises(UsageError, match="no option 'limt'"):
        vitbench.evaluate(Net(), ["digits"], limt=3, **PIXELS)


def test_tasks_and_protocols_are_named_as_on_the_command_line(folder):
    found = vitbench.evaluate(Net(), ["digits"], protocols=["knn,k=5"], **PIXELS, limit=60, quiet=True)
    assert found.records[0].job.protocol.options["k"] == 5
