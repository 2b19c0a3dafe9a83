"""One job becomes one record: what is learned from, what is scored, and what goes wrong."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

import vitbench
from tests.making.jobs import RESNET, component, make_job
from vitbench import register_backbone
from vitbench.api import Adapted, EvaluationTransform, InputSpec, Protocol, Task
from vitbench.core.digest import digest_path
from vitbench.core.record import Trial
from vitbench.core.registry import PROTOCOLS, TASKS
from vitbench.data.arrays import array_split
from vitbench.engine.job import run_job
from vitbench.engine.worker import Worker
from vitbench.store.heartbeat import HeartbeatWriter

RNG = np.random.default_rng(0)


FINETUNE = {"recipe": "own", "steps": 6, "warmup_steps": 1, "base_lr": 0.05, "batch_size": 16}


def test_the_score_is_scikit_learns(worker):
    outcome = run_job(make_job(), worker)
    task = TASKS.get("digits")[0].build()
    stack = lambda s: np.stack(s.source.read(s.indices)).reshape(len(s), -1) / 127.5 - 1  # noqa: E731
    x, y = stack(task.train()), task.train().labels  # kNN learns from train alone
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
    assert [check.item for check in record.conformance if not check.ok] == [
        "not limited",
        "protocol as its reference has it",  # one neighbour, squashed images
    ]
    assert "tf2_bilinear to 8 px" in record.preprocess
    assert record.backbone.weights == "none"
    assert record.env.packages["torch"] == torch.__version__.partition("+")[0]
    assert set(record.cost.seconds) == {"adapt", "features", "test"}
    assert set(record.cost.overhead) >= {"build", "data", "warm-up"}
    assert all(seconds >= 0 for seconds in (*record.cost.seconds.values(), *record.cost.overhead.values()))


def test_an_old_preset_is_noted(worker):
    record = run_job(make_job(limit=50, preprocess="centre_crop"), worker).record
    assert [note for note in record.notes if "`preprocess: centre_crop` is an old name" in note]
    assert "pil to 9 px shorter side" in record.preprocess


@register_backbone("evaluated")
class Evaluated(torch.nn.Module):
    """The pixels, with the transform that its authors evaluate with, at any image size."""

    evaluation = EvaluationTransform(crop_pct=0.8, interpolation="bicubic", crop_mode="squash")

    def __init__(self, size_px: int = 8, declares: bool = True):
        super().__init__()
        self.input = InputSpec(size_px, (0.5,) * 3, (0.5,) * 3)
        self.feature_dim = 3 * size_px**2
        if not declares:
            self.evaluation = None

    def features(self, images):
        return images.flatten(1)

    def at_resolution(self, size_px):
        return Evaluated(size_px)


def test_a_plugins_evaluation_is_followed(worker):
    job = make_job(backbone="evaluated", limit=50, preprocess="timm_eval")
    assert "pil_bicubic to 10 px square" in run_job(job, worker).record.preprocess
    larger = run_job(job.model_copy(update={"resolution_px": 16}), worker).record
    assert "pil_bicubic to 20 px square" in larger.preprocess


def test_timm_eval_fails_where_a_plugin_declares_no_evaluation(worker):
    silent = component("evaluated", declares=False)
    failure = run_job(
        make_job(limit=50, preprocess="timm_eval").model_copy(update={"backbone": silent}), worker
    ).record.failure
    assert failure.kind == "UsageError"
    assert "declares `evaluation`" in failure.message
    assert failure.phase == "data"  # the backbone's other jobs go on


@pytest.mark.parametrize(
    ("protocol", "options", "stage"),
    [
        ("knn", {"k": "val"}, "voting with 4 values of k, to choose one on validation"),
        ("logistic_probe", {"values": 3}, "fitting 3 values of C together, to choose one on validation"),
        ("ridge_probe", {}, "fitting 30 values of l2, to choose one on validation"),
        ("ridge_probe", {"l2": "loo"}, "fitting 30 values of l2, to choose one by leave-one-out"),
    ],
)
def test_progress_says_when_features_are_done_and_a_probe_chooses(
    worker, monkeypatch, protocol, options, stage
):
    """Progress said "features 797/797" while a probe fitted for minutes."""
    phases = []
    monkeypatch.setattr(HeartbeatWriter, "update", lambda _, phase, *counts: phases.append(phase))
    outcome = run_job(make_job(protocol=component(protocol, **options), limit=100), worker)
    assert outcome.record.failure is None
    assert phases.index(f"adapt, {stage}") > phases.index("features")
    assert phases[phases.index(f"adapt, {stage}") - 1] == "adapt"


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


def test_nothing_to_train_is_said(worker):
    job = make_job(limit=20).model_copy(update={"protocol": component("finetune", **FINETUNE)})
    assert "no weights to train" in run_job(job, worker).record.failure.message


def test_weights_that_cannot_be_had_say_so(worker, tmp_path):
    bad = tmp_path / "bad.pth"
    bad.write_bytes(b"\x80\x04\x95not a state dict")
    spec = component("timm", argument="resnet10t", checkpoint=str(bad))
    spec = spec.model_copy(update={"contents": {"checkpoint": digest_path(bad)}})
    record = run_job(make_job(backbone="raw_pixels").model_copy(update={"backbone": spec}), worker).record
    assert record.failure.kind == "UsageError"
    assert "pickled objects are never executed" in record.failure.message


@pytest.mark.parametrize("protocol", ["ridge_probe", "knn", pytest.param("finetune", marks=pytest.mark.slow)])
@pytest.mark.parametrize("budget", ["3-shot", "full"])
def test_the_same_job_gives_the_same_record(tmp_path, protocol, budget):
    """Twice, with a cold and with a warm cache: everything but cost and time."""
    options = {"finetune": FINETUNE}.get(protocol, {})
    job = make_job(budget=budget, protocol=protocol).model_copy(
        update={"backbone": RESNET, "protocol": component(protocol, **options)}
    )
    job = job.model_copy(update={"limit": 120})
    outcomes = [run_job(job, Worker("cpu", tmp_path / cache)) for cache in ("a", "a", "b")]
    strip = {"cost": None, "created": ""}
    records = [outcome.record.model_copy(update=strip) for outcome in outcomes]
    assert records[0].status == "ok", records[0].failure
    assert records[0] == records[1] == records[2]
    for outcome in outcomes[1:]:
        pd.testing.assert_frame_equal(outcome.predictions, outcomes[0].predictions)


@pytest.mark.slow
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
