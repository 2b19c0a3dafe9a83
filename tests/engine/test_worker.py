"""Backbones that jobs share in a worker: built alike every time, and left as they were."""

from dataclasses import dataclass

import pytest
import timm
import torch
from PIL import Image

import vitbench
from tests.making.jobs import RESNET, component, make_job
from vitbench.api import Adapted, InputSpec, Protocol
from vitbench.backbones.build import build
from vitbench.core.registry import BACKBONES, PROTOCOLS
from vitbench.engine.job import run_job
from vitbench.engine.plan import RunOptions, plan_suite
from vitbench.engine.run import run_planned
from vitbench.engine.worker import Worker
from vitbench.suite import Overrides

FINETUNE = {"recipe": "own", "steps": 6, "warmup_steps": 1, "base_lr": 0.05, "batch_size": 16}


@dataclass(frozen=True)
class Vandal(Protocol):
    """Writes into the backbone that all share."""

    def depends_on_seed(self, budget):
        return False

    def adapt(self, data):
        with torch.no_grad():
            for weight in data.backbone.parameters():
                weight.zero_()
        return Adapted(data.backbone, lambda x: torch.zeros(len(x), data.num_classes), False)


def test_a_protocol_that_writes_into_the_shared_backbone_fails_alone(worker, registered):
    PROTOCOLS.register("vandal")(Vandal)
    job = make_job(limit=60).model_copy(update={"backbone": RESNET})
    before = run_job(job, worker).record.metrics
    spoiled = run_job(job.model_copy(update={"protocol": component("vandal")}), worker).record
    assert "changed the backbone it was given" in spoiled.failure.message
    worker.store.held.clear()
    for file in worker.cache.rglob("*.npy"):
        file.unlink()
    assert run_job(job, worker).record.metrics == before


def test_weights_left_to_chance_are_the_same_every_time(tmp_path, registered):
    class Careless(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.input, self.feature_dim = InputSpec(8, (0.5,) * 3, (0.5,) * 3), 6
            self.conv = torch.nn.Conv2d(3, 6, 3)

        def features(self, images):
            return self.conv(images).square().mean((2, 3))

    BACKBONES.register("careless")(Careless)
    torch.rand(3)
    first = run_job(make_job(backbone="careless"), Worker("cpu", tmp_path / "a")).record
    torch.rand(5)
    again = run_job(make_job(backbone="careless"), Worker("cpu", tmp_path / "b")).record
    assert first.metrics == again.metrics
    assert first.backbone.weights_digest == again.backbone.weights_digest


def test_dropout_in_fine_tuning_follows_the_jobs_seed(tmp_path, registered):
    class Dropping(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.input, self.feature_dim = InputSpec(8, (0.5,) * 3, (0.5,) * 3), 16
            self.conv, self.drop = torch.nn.Conv2d(3, 16, 3), torch.nn.Dropout(0.5)

        def features(self, images):
            return self.drop(self.conv(images).square().mean((2, 3)))

    BACKBONES.register("dropping")(Dropping)
    job = make_job(backbone="dropping", limit=60).model_copy(
        update={"protocol": component("finetune", **FINETUNE)}
    )
    losses = []
    for seed in (0, 0, 1):
        torch.rand(7)
        record = run_job(job.model_copy(update={"seed": seed}), Worker("cpu", tmp_path)).record
        losses.append(record.trials[0].value)
    assert losses[0] == losses[1] != losses[2]


def test_fine_tuning_leaves_the_shared_backbone_alone(tmp_path):
    worker = Worker("cpu", tmp_path)
    job = make_job(limit=40).model_copy(update={"backbone": RESNET})
    before = worker.backbone(job).weights_digest()
    tuned = run_job(job.model_copy(update={"protocol": component("finetune", **FINETUNE)}), worker).record
    assert tuned.cost.images_backward == 6 * 16
    assert worker.backbone(job).weights_digest() == before


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "resnetv2_50x1_bit", "efficientnet_b0"])
def test_no_initial_values_are_drawn_for_weights_that_are_loaded(tmp_path, monkeypatch, name):
    """Neither when a checkpoint is read nor for another image size: a network is built on the meta device for both."""
    made = timm.create_model(name)
    torch.save(made.state_dict(), tmp_path / "weights.pth")
    drawn = []
    for draw in ("uniform_", "normal_"):
        plain = getattr(torch.Tensor, draw)

        def counted(tensor, *arguments, plain=plain, **named):
            drawn.append(tensor.device.type)
            return plain(tensor, *arguments, **named)

        monkeypatch.setattr(torch.Tensor, draw, counted)
    backbone = build(f"timm:{name}", {"checkpoint": str(tmp_path / "weights.pth")}).at_resolution(64)
    assert "cpu" not in drawn
    build(f"timm:{name}", {"pretrained": False})
    assert "cpu" in drawn  # they are counted where they are drawn
    for key, value in backbone.module.model.state_dict().items():
        assert key == "pos_embed" or torch.equal(value, made.state_dict()[key])


def test_flops_are_counted_at_the_jobs_size(worker):
    backbone = component("timm", argument="vit_tiny_patch16_224", pretrained=False)
    job = make_job(limit=10).model_copy(update={"backbone": backbone})
    small = run_job(job.model_copy(update={"resolution_px": 32}), worker).record
    assert small.backbone.size_px == 32
    native = worker.backbone(job)
    from vitbench.compute.flops import forward_flops

    # 12 blocks of 12 N D^2 + 2 N^2 D multiply-adds, N = 197 tokens, D = 192, and the patch embedding: 2 FLOPs each.
    n, d = 197, 192
    wanted = 2 * (12 * (12 * n * d * d + 2 * n * n * d) + 196 * 768 * d)
    assert forward_flops(native, 224) == wanted
    assert small.cost.flops_per_image < wanted / 40


def test_resolution_is_refused_where_the_architecture_is_tied_to_its_size(worker, registered):
    class Tied(torch.nn.Module):
        input = InputSpec(8, (0.5,) * 3, (0.5,) * 3)
        feature_dim = 3

        def features(self, images):
            return images.mean((2, 3))

    BACKBONES.register("tied")(Tied)
    record = run_job(replace_resolution(make_job(backbone="tied"), 16), worker).record
    assert "takes images of 8 px only" in record.failure.message
    assert run_job(make_job(backbone="tied"), worker).record.status == "ok"


def replace_resolution(job, size_px):
    return job.model_copy(update={"resolution_px": size_px})


@pytest.mark.parametrize("what", ["weights", "data"])
def test_content_that_changed_after_planning_fails_the_job_with_both_digests(what, tmp_path, suite_file):
    """The key names what was planned: nothing else may be scored under it."""
    torch.save(timm.create_model("test_resnet", num_classes=0).state_dict(), tmp_path / "w.pth")
    for name, level in (("dark", 20), ("bright", 200)):
        (tmp_path / "images/train" / name).mkdir(parents=True)
        for i in range(8):
            Image.new("RGB", (8, 8), (level + i,) * 3).save(tmp_path / "images/train" / name / f"{i}.png")
    suite = suite_file(
        f"name: c\nbudgets: [full]\nbackbones: [{{name: 'timm:test_resnet', checkpoint: '{tmp_path}/w.pth', size_px: 32}}]\n"
        f"tasks: [{{name: mine, source: folder, path: '{tmp_path}/images'}}]\nprotocols: [knn]\n"
    )
    plan = plan_suite(str(suite), tmp_path / "run", Overrides())
    if what == "weights":
        torch.save(timm.create_model("test_resnet", num_classes=0).state_dict(), tmp_path / "w.pth")
    else:
        Image.new("RGB", (8, 8), (99, 0, 0)).save(tmp_path / "images/train/dark/3.png")
    (record,) = run_planned(plan, RunOptions(device="cpu")).records
    assert "has changed since the job was planned: sha256 " in record.failure.message
    again = vitbench.run(suite, tmp_path / "run", device="cpu")
    assert again[0].status == "ok"
    assert again[0].key != record.key


def test_the_memory_of_a_job_is_without_the_weights_held_for_others(worker):
    one = make_job().model_copy(update={"backbone": RESNET})
    other = make_job()
    first, _ = worker.backbone(one), worker.backbone(other)
    weights = sum(tensor.numel() * tensor.element_size() for tensor in first.state_dict().values())
    assert worker.others_bytes(other) == weights > 2**20
    assert worker.others_bytes(one) == 0
