"""Probing jobs: what the record says, that they resume and repeat, what they choose, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import vitbench
from tests.making.heads import StoredTokens, numbered, seeded
from tests.making.jobs import component, make_job
from tests.making.records import essence
from tests.making.suites import PROBED
from vitbench import register_backbone
from vitbench.api import InputSpec, Task
from vitbench.core.errors import UsageError
from vitbench.core.registry import BACKBONES, PROTOCOLS, TASKS
from vitbench.data.arrays import array_split
from vitbench.engine.job import run_job
from vitbench.engine.run import Overrides, RunOptions, run_suite
from vitbench.engine.worker import Worker
from vitbench.protocols.heads import linear
from vitbench.protocols.heads.recipe import recipe_of
from vitbench.protocols.heads.trainer import HeadTrainer
from vitbench.store.record_file import load

HALF = (0.5, 0.5, 0.5)


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """The records of PROBED by the label of their protocol, its suite and its run."""
    folder = tmp_path_factory.mktemp("probed")
    (folder / "probed.yaml").write_text(PROBED)
    found = vitbench.run(folder / "probed.yaml", folder / "run")
    return {record.job.protocol.label: record for record in found}, folder


@pytest.mark.slow
def test_all_recipes_run_on_a_miniature_and_the_record_says_what_was_done(records):
    by_label, _ = records
    assert {record.failure for record in by_label.values()} == {None}
    dinov2, mae, capi = (by_label[label] for label in ("linear_probe", "mae", "attentive_probe"))
    assert [len(record.trials) for record in (dinov2, mae, capi)] == [27, 1, 31]
    for record in (dinov2, capi):
        *trials, final = record.trials
        assert {trial.split for trial in trials} == {"val"}
        (chosen,) = [trial for trial in trials if trial.chosen]
        assert chosen.value == max(trial.value for trial in trials)
        first = next(trial for trial in trials if trial.value == chosen.value)
        assert first is chosen
        assert final.options | chosen.options == final.options
        assert record.cost.images_forward == 12 * 32 + record.data.n_val + record.data.n_test
    data = mae.data
    assert mae.trials[0].note == "trained on train and validation"
    assert mae.trials[0].options["base_lr"] == 0.1
    steps = 2 * ((data.n_train + data.n_val) // 256)
    assert mae.cost.images_forward == 256 * steps + data.n_test
    assert {record.score_kind for record in by_label.values()} == {"logits"}
    assert {record.cost.images_backward for record in by_label.values()} == {0}
    assert [r.cost.trained_parameters for r in (dinov2, mae)] == [1290, 1290]
    assert capi.cost.trained_parameters == 128 + 2 * 128 * 128 + 128 + 1290
    assert dinov2.backbone.params == capi.backbone.params
    departs = next(check for check in dinov2.conformance if check.item == "protocol as its reference has it")
    assert "the head is chosen on held-out training images" in departs.reason


@pytest.mark.slow
def test_the_same_suite_gives_the_same_records_on_two_workers(records, tmp_path):
    _, folder = records
    done = run_suite(str(folder / "probed.yaml"), tmp_path / "again", Overrides(), RunOptions(workers=2))
    assert done.failed == 0
    assert essence(load(tmp_path / "again")) == essence(load(folder / "run"))


@pytest.mark.parametrize("protocol", ["linear_probe", "attentive_probe"])
def test_the_same_job_gives_the_same_record_again_and_with_other_threads(protocol, worker, tmp_path):
    inputs = {"linear_probe": {"inputs": ("mean",)}, "attentive_probe": {}}[protocol]
    job = probe_job(protocol, steps=5, batch_size=16, **inputs)
    first = run_job(job, worker).record
    before = torch.get_num_threads()
    for threads in (before, 2):
        torch.set_num_threads(threads)
        try:
            again = run_job(job, Worker("cpu", tmp_path / f"{threads}")).record
        finally:
            torch.set_num_threads(before)
        assert first.failure is again.failure is None
        assert again.metrics == first.metrics
        assert [t.options for t in again.trials if t.chosen] == [t.options for t in first.trials if t.chosen]
        losses = [np.array(r.trials[-1].curve["loss"]) for r in (first, again)]
        np.testing.assert_allclose(*losses, rtol=0 if threads == before else 1e-6)


@pytest.mark.parametrize("protocol", ["linear_probe", "attentive_probe"])
def test_a_job_that_is_cut_off_goes_on_and_ends_with_the_same_record(protocol, tmp_path, monkeypatch):
    monkeypatch.setattr("vitbench.protocols.finetune.checkpoint.EVERY_S", 0)
    inputs = {"linear_probe": {"inputs": ("mean",)}, "attentive_probe": {}}[protocol]
    job = probe_job(protocol, steps=7, batch_size=16, **inputs)
    step, seen = HeadTrainer.step, []

    def counted(self, *batch):
        if len(seen) == 4:
            seen.append(None)
            raise KeyboardInterrupt
        seen.append(self.steps_done)
        step(self, *batch)

    monkeypatch.setattr(HeadTrainer, "step", counted)
    worker = Worker("cpu", tmp_path / "cache", run=tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        run_job(job, worker)
    resumed = run_job(job, worker).record
    assert seen == [0, 1, 2, 3, None, 4, 5, 6]
    whole = run_job(job, Worker("cpu", tmp_path / "cache")).record
    assert resumed.failure is None
    assert resumed.trials == whole.trials
    assert resumed.metrics == whole.metrics


def probe_job(protocol="linear_probe", backbone=None, job=None, **options):
    chosen = backbone or component("colours")
    fields = {"resolution_px": 8, "preprocess": "dinov2_knn", "limit": 120, **(job or {})}
    return make_job(protocol=component(protocol, **options), **fields).model_copy(update={"backbone": chosen})


@register_backbone("colours")
class Colours(torch.nn.Module):
    """Mean colours of four fields of an image, as tokens; three features."""

    def __init__(self, size_px: int = 8):
        super().__init__()
        self.input, self.feature_dim = InputSpec(size_px, HALF, HALF), 3

    def tokens(self, images):
        return torch.nn.functional.adaptive_avg_pool2d(images, 2).flatten(2).mT

    def features(self, images):
        return images.mean((2, 3))


@pytest.fixture
def worker(tmp_path):
    with BACKBONES.restored(), TASKS.restored(), PROTOCOLS.restored():
        yield Worker("cpu", tmp_path)


def colours_task(count=60):
    """Three classes of one colour each, but for noise."""
    draw = np.random.default_rng(0)
    labels = np.arange(3 * count) % 3
    pixels = draw.integers(0, 60, (3 * count, 8, 8, 3))
    pixels[np.arange(3 * count), :, :, labels] += 40
    images = pixels.astype(np.uint8)
    parts = [slice(0, count), slice(count, 2 * count), slice(2 * count, 3 * count)]
    return Task.of(
        ("r", "g", "b"), lambda: tuple(array_split(images[p], labels[p], "colours") for p in parts)
    )


@pytest.mark.parametrize(
    ("protocol", "options"),
    [
        ("linear_probe", {"inputs": ("features", "mean"), "steps": 60, "base_lr": (0.1, 20.0)}),
        ("linear_probe", {"recipe": "mae", "inputs": ("features",), "epochs": 60, "base_lr": (300.0,)}),
        ("attentive_probe", {"steps": 60, "base_lr": (0.001, 1.0)}),
        ("attentive_probe", {"inputs": ("tokens",), "steps": 60, "base_lr": (1.0,)}),
        ("linear_probe", {"inputs": ("features",), "steps": 60, "base_lr": (1.0,), "optimiser": "adamw"}),
        ("linear_probe", {"inputs": ("mean",), "steps": 60, "base_lr": (20.0,), "dtype": "bfloat16"}),
    ],
)
def test_heads_learn(worker, protocol, options):
    options = dict(options)
    vitbench.register_task("colours")(colours_task)
    fields = {"task": "colours", "limit": None, "dtype": options.pop("dtype", "float32")}
    job = probe_job(protocol, job=fields, batch_size=30, **options)
    record = run_job(job, worker).record
    assert record.failure is None
    assert record.metrics["top1"].value > 0.95


def test_a_plugins_features_are_enough_for_a_linear_head_and_its_tokens_for_an_attentive_one(worker):
    plain = component("raw_pixels", size_px=8)
    eight = {"resolution_px": 8}
    assert (
        run_job(probe_job("linear_probe", plain, eight, inputs=("features",), steps=2), worker).record.status
        == "ok"
    )
    refused = run_job(probe_job("attentive_probe", plain, eight, steps=2), worker).record
    assert "does not offer its tokens" in refused.failure.message
    assert refused.failure.traceback == "" if hasattr(refused.failure, "traceback") else True


def test_a_backbone_of_another_size_than_the_recipes_is_refused_with_the_size_to_state(worker):
    record = run_job(
        probe_job("linear_probe", job={"resolution_px": None}, inputs=("features",), steps=2), worker
    ).record
    assert "takes images of 8 px only" in record.failure.message
    assert "state `resolution_px: 8` in the suite" in record.failure.message


def test_networks_without_class_token_or_enough_blocks_are_refused(worker):
    refused = run_job(probe_job(steps=2), worker).record
    assert "does not offer tokens of 4 blocks" in refused.failure.message
    one = run_job(probe_job(inputs=("class",), steps=2), worker).record
    assert "this backbone has no class token" in one.failure.message
    assert "inputs: mean" in one.failure.message


@pytest.mark.parametrize(
    ("protocol", "options", "said"),
    [
        ("linear_probe", {"inputs": "patches"}, "'patches' is not one of class, mean, features"),
        ("attentive_probe", {"inputs": "class"}, "'class' is not one of patches, tokens"),
        ("linear_probe", {"inputs": "clas"}, "unknown 'clas'"),
        ("linear_probe", {"inputs": ()}, "inputs"),
        ("linear_probe", {"recipe": "mea"}, "recipe"),
        ("linear_probe", {"steps": 0}, "steps"),
    ],
)
def test_options_that_make_no_sense_are_refused_before_anything_runs(protocol, options, said):
    with pytest.raises((UsageError, ValueError), match=said):
        PROTOCOLS.make(protocol, options)


def test_without_validation_data_the_middle_of_the_grid_is_used(worker):
    job = probe_job(
        "linear_probe", job={"budget": "2-shot", "limit": None}, inputs=("mean",), steps=3, batch_size=8
    )
    record = run_job(job, worker).record
    assert record.failure is None
    assert "no validation data to choose on: used the middle of the grid" in record.notes
    (trial,) = record.trials
    assert trial.options["base_lr"] == 0.001


def test_a_head_that_diverges_is_left_out_and_all_of_them_fail_the_job(worker):
    options = {"inputs": ("mean",), "steps": 6, "batch_size": 16}
    record = run_job(probe_job(base_lr=(0.01, 1e300), **options), worker).record
    first, second, final = record.trials
    assert (second.value, second.chosen, first.chosen) == (None, False, True)
    assert "the loss is not finite from step" in second.note
    assert final.options["base_lr"] == 0.01
    failed = run_job(probe_job(base_lr=(1e300,), **options), worker).record
    assert "every head diverged" in failed.failure.message


def test_flips_and_crops_that_a_task_rules_out_are_left_out_and_said(worker):
    def task():
        made = colours_task()
        made.flip = made.crop = False
        return made

    vitbench.register_task("fixed")(task)
    job = probe_job(
        "linear_probe", component("colours"), {"task": "fixed", "resolution_px": 8, "limit": None},
        inputs=("features",), steps=2,
    )  # fmt: skip
    notes = run_job(job, worker).record.notes
    assert {
        "not flipped: the task's labels do not survive it",
        "not cropped: the task's labels do not survive it",
    } <= set(notes)


def test_maes_batch_is_no_larger_than_the_data_and_its_rate_in_proportion():
    recipe = recipe_of("mae", {})
    small = recipe.for_examples(1000)
    assert (small.batch_size, small.steps, small.warmup_steps) == (1000, 90, 10)
    assert small.rate(0.1, 10) == pytest.approx(0.1 * 1000 / 256)
    whole = recipe.for_examples(1_281_167)  # 78 batches an epoch, as in MAE
    assert (whole.batch_size, whole.steps, whole.warmup_steps) == (16384, 78 * 90, 780)
    assert whole.rate(0.1, 780) == pytest.approx(6.4)
    assert whole.rate(0.1, 390) == pytest.approx(3.2)


@pytest.mark.parametrize("changes", [{"steps": 1250}, {}])
def test_overridden_steps_scale_the_warm_up(changes):
    recipe = recipe_of("capi", changes)
    assert recipe.warmup_steps * 10 == recipe.steps
    mae = recipe_of("mae", {"steps": 900})
    assert (mae.steps, mae.warmup_steps, mae.epochs) == (900, 100, None)


def test_what_heads_read():
    backbone = StoredTokens(seeded("c", (2, 4, 3)), seeded("p", (2, 5, 3)))
    names = ("class", "class+mean", "class-3", "class-4+mean", "mean", "features")
    found = linear.read_rows(backbone, numbered([1, 0]), names)
    classes, mean = backbone.class_tokens[[1, 0]], backbone.patches[[1, 0]].mean(1)
    wanted = {
        "class": classes[:, 3],
        "class+mean": torch.cat([classes[:, 3], mean], 1),
        "class-3": classes[:, 1:].flatten(1),
        "class-4+mean": torch.cat([classes.flatten(1), mean], 1),
        "mean": mean,
        "features": mean,
    }
    for name in names:
        assert torch.equal(found[name], wanted[name].float())


def test_effort_is_what_the_job_passes_forward(records):
    by_label, _ = records
    task = TASKS.get("digits")[0].build()
    for record in by_label.values():
        protocol = PROTOCOLS.make(record.job.protocol.spec, record.job.protocol.options)[1]
        train, val = (
            split.take(np.arange(n))
            for split, n in ((task.train(), record.data.n_train), (task.val(), record.data.n_val))
        )
        effort = protocol.effort(train, val, "digits", 0, 32)
        assert effort.images_forward + record.data.n_test == record.cost.images_forward
        assert (effort.images_backward, effort.size_px) == (0, 32)


def test_batch_norm_needs_two_images():
    recipe = replace(recipe_of("mae", {"inputs": "features"}), steps=1, batch_size=1)
    heads = {"features": linear.LinearHeads(recipe.points(), torch.zeros(1, 3), 2, recipe, 0)}
    trainer = HeadTrainer(heads, lambda images: {"features": images[:, :, 0, 0]}, recipe, 1)
    with pytest.raises(UsageError, match="two images"):
        trainer.step(numbered([1]), torch.tensor([0]))
