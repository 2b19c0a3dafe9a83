"""One job to one record: what is learned from, what is scored, and what goes wrong."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import binomtest
from sklearn.neighbors import KNeighborsClassifier

import vitbench
from tests.making.jobs import component, make_job
from vitbench.api import Adapted, InputSpec, Protocol, ScoreRule, Task
from vitbench.core.job import Component
from vitbench.core.record import Trial
from vitbench.core.registry import BACKBONES, PROTOCOLS, TASKS
from vitbench.data.arrays import array_split
from vitbench.engine.job import run_job
from vitbench.engine.scoring import score
from vitbench.engine.worker import Worker

RNG = np.random.default_rng(0)


FINETUNE = {"recipe": "own", "steps": 6, "warmup_steps": 1, "base_lr": 0.05, "batch_size": 16}


@pytest.fixture
def worker(tmp_path):
    return Worker("cpu", tmp_path)


@pytest.fixture
def registered():
    """Registries that forget what a test adds."""
    with BACKBONES.restored(), TASKS.restored(), PROTOCOLS.restored():
        yield


def test_the_score_is_scikit_learns(worker):
    outcome = run_job(make_job(), worker)
    task = TASKS.get("digits")[0].build()
    stack = lambda s: np.stack(s.source.read(s.indices)).reshape(len(s), -1) / 127.5 - 1  # noqa: E731
    x = np.concatenate([stack(task.train()), stack(task.val())])
    y = np.concatenate([task.train().labels, task.val().labels])
    unit = lambda a: a / np.linalg.norm(a, axis=1, keepdims=True)  # noqa: E731
    reference = KNeighborsClassifier(1).fit(unit(x), y).predict(unit(stack(task.test())))
    table = outcome.predictions
    assert (table["prediction"] == reference).mean() > 0.995
    metric = outcome.record.metrics["top1"]
    assert metric.value == pytest.approx((table["prediction"] == table["label"]).mean())
    assert metric.n == len(table) == len(task.test())  # every test image, no remainder dropped


def test_the_record_states_what_was_done(worker):
    record = run_job(make_job(limit=100), worker).record
    assert record.status == "ok"
    assert record.key == record.job.key
    assert record.data.n_test == 100
    assert not record.conformant
    assert [check.item for check in record.conformance if not check.ok] == ["not limited"]
    assert "tf2_bilinear to 8 px" in record.preprocess
    assert record.backbone.weights == "none"
    assert record.env.packages["torch"] == torch.__version__.partition("+")[0]
    assert set(record.cost.seconds) == {"build", "data", "adapt", "features", "test"}
    assert all(seconds >= 0 for seconds in record.cost.seconds.values())


@pytest.mark.parametrize(("hits", "n"), [(0, 5), (5, 5), (417, 1000), (1, 3)])
def test_the_interval_is_scipys_wilson(hits, n):
    labels = np.zeros(n, int)
    split = array_split(np.zeros((n, 1, 1, 3), np.uint8), labels, "x")
    predictions = np.where(np.arange(n) < hits, 0, 1)
    rule = ScoreRule("top1", lambda p, s: (p == s.labels).astype(float))
    found = score(rule, predictions, split)
    wanted = binomtest(hits, n).proportion_ci(0.95, "wilson")
    assert (found.value, found.ci_low, found.ci_high) == pytest.approx((hits / n, wanted.low, wanted.high))


def test_examples_that_do_not_count_leave_the_denominator():
    split = array_split(np.zeros((4, 1, 1, 3), np.uint8), np.zeros(4, int), "x")
    rule = ScoreRule("real", lambda p, s: np.array([1.0, np.nan, 0.0, np.nan]))
    assert score(rule, np.zeros(4, int), split).n == 2


@dataclass(frozen=True)
class Spy(Protocol):
    """Looks for test wherever a protocol can look."""

    def depends_on_seed(self, budget):
        return False

    def adapt(self, data):
        seen = [data.train, data.val]
        assert not hasattr(data, "test")
        for split in seen:
            assert set(split.indices) <= set(range(len(split.source)))
        EVENTS.append("adapt")
        images = np.concatenate([np.stack(s.source.read(range(len(s.source)))) for s in seen])
        REACHED.update(bytes(image) for image in images)
        return Adapted(data.backbone, lambda x: torch.zeros(len(x), data.num_classes), False)


EVENTS, REACHED = [], set()


def test_test_is_opened_once_after_everything_is_frozen(worker, registered):
    """And nothing of it can be reached before."""
    EVENTS.clear()
    REACHED.clear()
    images = RNG.integers(0, 256, (3, 30, 4, 4, 3), dtype=np.uint8)

    def part(i):
        return array_split(images[i], np.arange(30) % 3, f"part{i}")

    class Spied(Task):
        class_names = ("a", "b", "c")

        def train(self):
            return part(0)

        def val(self):
            return part(1)

        def test(self):
            EVENTS.append("test")
            return part(2)

    TASKS.register("spied", group="x")(Spied)
    PROTOCOLS.register("spy")(Spy)
    record = run_job(make_job(task="spied", protocol="spy"), worker).record
    assert record.status == "ok", record.failure
    assert EVENTS == ["adapt", "test"]
    assert REACHED.isdisjoint(bytes(image) for image in images[2])


@dataclass(frozen=True)
class NanHead(Protocol):
    """A head that overflows."""

    def depends_on_seed(self, budget):
        return False

    def adapt(self, data):
        return Adapted(data.backbone, lambda x: torch.full((len(x), 10), float("nan")), False)


@dataclass(frozen=True)
class Broken(Protocol):
    """A protocol with a bug."""

    def depends_on_seed(self, budget):
        return False

    def adapt(self, data):
        raise ZeroDivisionError("a bug")


@pytest.mark.parametrize(
    ("protocol", "kind", "message"),
    [(NanHead, "VitbenchError", "not finite"), (Broken, "ZeroDivisionError", "a bug")],
)
def test_a_failure_is_a_record(worker, registered, protocol, kind, message):
    PROTOCOLS.register("faulty")(protocol)
    outcome = run_job(make_job(protocol="faulty"), worker)
    assert outcome.predictions is None
    assert outcome.record.status == "failed"
    assert outcome.record.failure.kind == kind
    assert message in outcome.record.failure.message
    assert outcome.record.metrics == {}


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


@dataclass(frozen=True)
class Unwritable(Protocol):
    """Leaves something in its record that is no JSON."""

    def depends_on_seed(self, budget):
        return False

    def adapt(self, data):
        trial = Trial(options={"k": object()}, split="train", metric="top1", value=None, chosen=True)
        return Adapted(data.backbone, lambda x: torch.zeros(len(x), data.num_classes), False, (trial,))


@dataclass(frozen=True)
class Leaves(Protocol):
    """Ends the interpreter."""

    def depends_on_seed(self, budget):
        return False

    def adapt(self, data):
        raise SystemExit(0)


@pytest.mark.parametrize("protocol", [Unwritable, Leaves])
def test_whatever_a_protocol_does_the_run_goes_on(worker, registered, protocol):
    PROTOCOLS.register("odd")(protocol)
    record = run_job(make_job(protocol="odd", limit=20), worker).record
    assert record.status == "failed"
    assert record.model_dump_json()


SMALL = Component(
    name="timm", version="1", label="r", argument="resnet10t", options={"pretrained": False, "size_px": 32}
)


def test_a_protocol_that_writes_into_the_shared_backbone_fails_alone(worker, registered):
    PROTOCOLS.register("vandal")(Vandal)
    job = make_job(limit=60).model_copy(update={"backbone": SMALL})
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


def test_nothing_to_train_is_said(worker):
    job = make_job(limit=20).model_copy(update={"protocol": component("finetune", **FINETUNE)})
    assert "no weights to train" in run_job(job, worker).record.failure.message


def test_weights_that_cannot_be_had_say_so(worker, tmp_path):
    bad = tmp_path / "bad.pth"
    bad.write_bytes(b"\x80\x04\x95not a state dict")
    spec = Component(
        name="timm", version="1", label="x", argument="resnet10t", options={"checkpoint": str(bad)}
    )
    record = run_job(make_job(backbone="raw_pixels").model_copy(update={"backbone": spec}), worker).record
    assert record.failure.kind == "UsageError"
    assert "never pickled objects" in record.failure.message


@pytest.mark.parametrize("protocol", ["ridge_probe", "knn", "finetune"])
@pytest.mark.parametrize("budget", ["3-shot", "full"])
def test_the_same_job_gives_the_same_record(tmp_path, protocol, budget):
    """Twice, with a cold and with a warm cache: everything but cost and time."""
    options = {"finetune": FINETUNE}.get(protocol, {})
    backbone = Component(
        name="timm",
        version="1",
        label="r",
        argument="resnet10t",
        options={"pretrained": False, "size_px": 32},
    )
    job = make_job(budget=budget, protocol=protocol).model_copy(
        update={"backbone": backbone, "protocol": component(protocol, **options)}
    )
    job = job.model_copy(update={"limit": 120})
    outcomes = [run_job(job, Worker("cpu", tmp_path / cache)) for cache in ("a", "a", "b")]
    strip = {"cost": None, "created": ""}
    records = [outcome.record.model_copy(update=strip) for outcome in outcomes]
    assert records[0].status == "ok", records[0].failure
    assert records[0] == records[1] == records[2]
    for outcome in outcomes[1:]:
        pd.testing.assert_frame_equal(outcome.predictions, outcomes[0].predictions)


def test_fine_tuning_leaves_the_shared_backbone_alone(tmp_path):
    worker = Worker("cpu", tmp_path)
    backbone = Component(
        name="timm",
        version="1",
        label="r",
        argument="resnet10t",
        options={"pretrained": False, "size_px": 32},
    )
    job = make_job(limit=40).model_copy(update={"backbone": backbone})
    before = worker.backbone(job).weights_digest()
    tuned = run_job(job.model_copy(update={"protocol": component("finetune", **FINETUNE)}), worker).record
    assert tuned.cost.images_backward == 6 * 16
    assert worker.backbone(job).weights_digest() == before


def test_flops_are_counted_at_the_jobs_size(worker):
    backbone = Component(
        name="timm", version="1", label="v", argument="vit_tiny_patch16_224", options={"pretrained": False}
    )
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


def test_tested_at_another_resolution_than_adapted_at(suite_file, tmp_path):
    """FixRes: the same ViT, probed at 32 px, scored at 32 and at 48 px."""
    text = """\
name: fixres
budgets: [5-shot]
preprocess: squash
backbones: [{name: "timm:vit_tiny_patch16_224", pretrained: false, size_px: 32, patch_px: 8}]
tasks: [digits]
protocols:
  - ridge_probe
  - {name: ridge_probe, label: larger, test_resolution_px: 48}
  - {name: finetune, recipe: own, steps: 1, batch_size: 8, test_resolution_px: 48}
"""
    plain, larger, tuned = vitbench.run(suite_file(text), tmp_path / "run", seeds=[0], limit=120)
    assert [record.failure for record in (plain, larger, tuned)] == [None] * 3
    assert "adapted at 32 px, tested at 48 px" in larger.notes
    assert "adapted at 32 px, tested at 48 px" in tuned.notes
    assert plain.metrics["top1"].value != larger.metrics["top1"].value
    assert len({record.key for record in (plain, larger, tuned)}) == 3
