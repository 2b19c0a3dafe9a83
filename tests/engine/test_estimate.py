"""What a run will cost, estimated before it starts, compared with what it did cost."""

import json
import os
import subprocess
import sys

import pytest
import torch

import vitbench
from tests.making.command import vitbench as command
from vitbench.core.job import backbone_key
from vitbench.core.registry import TASKS
from vitbench.engine import estimate, network_costs
from vitbench.engine.run import Overrides, plan_suite
from vitbench.store.run_dir import estimated


@pytest.mark.slow
def test_an_estimate_counts_each_feature_once_and_the_report_compares(suite_file, tmp_path, monkeypatch):
    monkeypatch.setattr("vitbench.engine.speeds.CALIBRATION_S", 0.1)
    suite = suite_file(
        "name: e\nbudgets: [2-shot, full]\nbackbones: [{name: 'timm:resnet10t', pretrained: false, size_px: 32}]\n"
        "tasks: [digits]\nprotocols: [ridge_probe, knn, {name: knn, k: val, label: chosen, preprocess: clip},\n"
        "            {name: finetune, recipe: own, steps: 3, batch_size: 8,"
        " base_lr: [0.1, 0.2], warmup_steps: 0, budgets: [full]}]\nlimit: 50\n"
    )
    out = tmp_path / "run"
    found = json.loads(command("run", str(suite), "--out", str(out), "--dry-run", "--json").stdout)
    records = vitbench.run(suite, out)
    measured = {
        name: sum(getattr(record.cost, name) for record in records)
        for name in ("images_forward", "images_backward")
    }
    shared = [each for record in records for each in record.cost.extractions if each.shared]
    measured["images_forward"] -= sum(each.images for each in shared)  # the estimate counts them once
    assert found["estimate"]["images_forward"] == measured["images_forward"]
    assert found["estimate"]["images_backward"] == measured["images_backward"]
    each = records[0].cost.flops_per_image
    assert found["estimate"]["flops_forward"] == each * measured["images_forward"]
    assert found["estimate"]["flops_backward"] == 3 * each * measured["images_backward"]
    assert found["estimate"]["seconds"] > 0
    assert not found["estimate"]["unknown"]
    assert command("report", str(out)).returncode == 0
    assert f"for {len(records)} of these jobs" in (out / "report.html").read_text()


def test_few_trained_parameters_cost_what_their_backward_pass_needs(suite_file, tmp_path, monkeypatch):
    """The head alone needs no backward pass, biases one without gradients of weights; kept for the next plan."""
    monkeypatch.setenv("VITBENCH_CACHE", str(tmp_path / "cache"))
    suite = suite_file(
        "name: e\nbudgets: [2-shot]\nlimit: 20\ntasks: [digits]\nbackbones: [{name: 'timm:vit_tiny_patch16_224', "
        "pretrained: false}]\nprotocols:\n"
        + "".join(
            f"  - {{name: finetune, recipe: noah, label: {tune}, tune: {tune}}}\n"
            for tune in ("all", "head", "bias", "last-6")
        )
    )
    plan = plan_suite(str(suite), tmp_path / "run", Overrides())
    jobs = {job.key: job.protocol.label for job in plan.suite.jobs}
    found = {jobs[each.key]: each for each in estimate.estimate(plan.suite.jobs, "cpu", "h100").jobs}
    forward = {each.flops_forward / each.images_forward for each in found.values()}
    passes = {name: each.flops_backward / each.images_backward / min(forward) for name, each in found.items()}
    assert len(forward) == 1
    assert passes["all"] == 3
    assert passes["head"] == 1
    assert 2 < passes["bias"] < 2.15
    assert 1.95 < passes["last-6"] < 2.05
    seconds = {name: each.seconds for name, each in found.items()}
    assert seconds["head"] < seconds["bias"] < seconds["all"]
    again = estimate.estimate(plan.suite.jobs, "cpu", "h100")
    monkeypatch.setattr("vitbench.protocols.finetune.search.step_flops", None)
    assert [each.flops_backward for each in again.jobs] == [each.flops_backward for each in found.values()]


def test_what_jobs_share_is_made_once_for_all_of_them(suite_file, tmp_path, monkeypatch):
    """A suite of 100,000 jobs has a few hundred backbones, tasks and draws."""
    made = []

    def counted(module, name):
        original = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *a, **k: (made.append(name), original(*a, **k))[1])

    counted(network_costs.build, "build")
    counted(estimate, "labelled_data")
    monkeypatch.setenv("VITBENCH_CACHE", str(tmp_path / "cache"))
    suite = suite_file(
        "name: e\nseeds: [0, 1, 2]\nbudgets: [1-shot, 2-shot]\nlimit: 20\ntasks: [digits]\n"
        "backbones: [{name: raw_pixels, size_px: 2, label: a}, {name: raw_pixels, size_px: 3, label: b}]\n"
        "protocols: [ridge_probe, knn]\n"
    )
    plan = plan_suite(str(suite), tmp_path / "run", Overrides())
    found = estimate.estimate(plan.suite.jobs, "cpu")
    assert len(found.jobs) == len(plan.suite.jobs) == 24
    assert sorted(made) == ["build"] * 2 + ["labelled_data"] * 6  # one draw for each budget and seed
    estimate.keep(plan, found)
    assert estimated(plan.run.path) == {job.key: job.seconds for job in found.jobs}


SUITE = (
    "name: e\nbudgets: [2-shot]\nlimit: 20\ntasks: [digits]\nprotocols: [ridge_probe]\n"
    "backbones: [{name: 'timm:resnet10t', pretrained: false, size_px: 32}]\n"
)


@pytest.mark.slow
def test_a_second_dry_run_of_the_same_networks_needs_no_torch_and_says_the_same(suite_file, tmp_path):
    """Counting takes 700 MiB and seconds; a plan of 100,000 jobs of known networks takes 310 MB."""
    environment = {**os.environ, "VITBENCH_CACHE": str(tmp_path / "cache")}
    command_line = [str(suite_file(SUITE)), "--out", str(tmp_path / "run"), "--dry-run", "--json", "--device"]

    def dry_run(device):
        code = (
            "import sys\nfrom vitbench.cli import main\ntry: main()\n"
            "finally: print('torch:', 'torch' in sys.modules, file=sys.stderr)"
        )
        arguments = [sys.executable, "-c", code, "run", *command_line, device]
        done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=True)
        return json.loads(done.stdout)["estimate"], "torch: True" in done.stderr

    first, imported = dry_run("cpu")
    assert imported
    assert dry_run("cpu") == (first, False)
    (kept,) = (tmp_path / "cache" / "networks").iterdir()
    kept.write_text("{")
    again, imported = dry_run("cpu")
    assert imported
    assert again["flops_forward"] == first["flops_forward"]


def test_what_is_known_of_a_network_holds_for_its_size_its_code_and_a_day(suite_file, tmp_path, monkeypatch):
    def job(size_px, more=""):
        text = SUITE.replace("size_px: 32", f"size_px: {size_px}{more}")
        return plan_suite(str(suite_file(text)), tmp_path / "run", Overrides()).suite.jobs[0]

    monkeypatch.setattr(network_costs.throughput, "rate", lambda *_: next(speeds))
    speeds = iter([1e9, 2e9])
    networks = network_costs.Networks(tmp_path)
    small, large = job(32), job(64)
    key = backbone_key
    assert networks.flops(key(large), large, 64) == pytest.approx(
        4 * networks.flops(key(small), small, 32), rel=0.01
    )
    newer = small.model_copy(update={"backbone": small.backbone.model_copy(update={"version": "99"})})
    assert len({key(small), key(large), key(newer)}) == 3
    assert networks.rate(key(small), small, "cpu", 0.1) == 1e9
    again = network_costs.Networks(tmp_path)
    again.cost(key(small), small)
    assert again.rate(key(small), small, "cpu", 0.1) == 1e9
    monkeypatch.setattr(network_costs, "RATE_VALID_S", 0)
    assert again.rate(key(small), small, "cpu", 0.1) == 2e9


def test_a_cache_that_cannot_be_written_costs_time_only(suite_file, tmp_path):
    (tmp_path / "networks").write_text("not a folder")
    job = plan_suite(str(suite_file(SUITE)), tmp_path / "run", Overrides()).suite.jobs[0]
    assert network_costs.Networks(tmp_path).cost(backbone_key(job), job).feature_dim == 512


def test_a_backbone_that_cannot_be_timed_has_the_speed_of_the_others_or_none(
    suite_file, tmp_path, monkeypatch
):
    """One that runs out of memory, or a plugin that fails, does not end the dry run."""
    suite = suite_file(
        "name: e\nlimit: 20\nprotocols: [ridge_probe]\ntasks: [digits]\nbackbones:\n"
        "  - {name: 'timm:resnet10t', pretrained: false, size_px: 32, label: a}\n"
        "  - {name: 'timm:resnet10t', pretrained: false, size_px: 64, label: b}\n"
    )
    plan = plan_suite(str(suite), tmp_path / "run", Overrides())
    speeds = iter([None, None, None, 2e9])

    def rate(*_how):
        speed = next(speeds)
        if speed is None:
            raise torch.OutOfMemoryError("no")
        return speed

    monkeypatch.setattr(network_costs.throughput, "rate", rate)
    monkeypatch.setenv("VITBENCH_CACHE", str(tmp_path / "cache"))
    assert {job.seconds for job in estimate.estimate(plan.suite.jobs, "cpu").jobs} == {None}
    found = estimate.estimate(plan.suite.jobs, "cpu").jobs
    assert [job.seconds for job in found] == [job.flops_forward / 2e9 for job in found]


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """No data set is prepared."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "none"))
    monkeypatch.setattr("vitbench.engine.speeds.CALIBRATION_S", 0.05)


def test_vtab_is_estimated_without_its_data(nowhere, suite_file, tmp_path):
    """By the reference's sizes: every test image once, and 2,500 steps of 512 images in each job."""
    suite = suite_file(
        "name: v\nbudgets: [1k]\nbackbones: [{name: 'timm:resnet10t', pretrained: false, size_px: 32}]\n"
        f"tasks: [{', '.join(f'vtab/{name}' for name in N_TEST)}]\n"
        "protocols: [{name: finetune, recipe: vit}, knn]\nresolution_px: 32\n"
    )
    found = estimate.estimate(plan_suite(str(suite), tmp_path / "run", Overrides()).suite.jobs, "cpu")
    assert not found.unknown
    assert len(found.absent) == 16
    tuned = [job for job in found.jobs if job.images_backward]
    assert {job.images_backward for job in tuned} == {2500 * 512}
    assert sorted(job.images_forward for job in tuned) == sorted(N_TEST.values())
    knn = [job.images_forward for job in found.jobs if not job.images_backward]
    # Train (validation is not read) and test; two tasks on one data set share their images.
    assert sum(knn) == sum(N_TEST.values()) + 19 * 800 - sum(SHARED.values())


N_TEST = {
    entry.name.removeprefix("vtab/"): entry.n_test
    for entry in TASKS.entries()
    if entry.name.startswith("vtab/")
}
SHARED = {"clevr": 15_000 + 800, "dsprites": 73_728 + 800, "smallnorb": 12_150 + 800}


def test_what_compiling_saves_is_part_of_a_cards_hours(nowhere, suite_file, tmp_path, monkeypatch):
    """One seed of ViT-B/16 and BiT-R50x1: training of the first is compiled, once for all tasks."""
    suite = suite_file(
        "name: v\nbudgets: [1k]\ndtype: bfloat16\ntasks: [vtab/dtd, vtab/pets]\n"
        "protocols: [{name: finetune, recipe: vit}, knn]\n"
        "backbones: ['timm:vit_base_patch16_224.orig_in21k', 'timm:resnetv2_50x1_bit.goog_in21k']\n"
    )
    jobs = plan_suite(str(suite), tmp_path / "run", Overrides()).suite.jobs
    hours = {}
    for mode in ("off", "auto"):
        monkeypatch.setenv("VITBENCH_COMPILE", mode)
        hours[mode] = [each.seconds / 3600 for each in estimate.estimate(jobs, "cpu", "h100").jobs]
    long = [job for job, plain, less in zip(jobs, hours["off"], hours["auto"], strict=True) if less != plain]
    assert [(job.backbone.label, job.protocol.name) for job in long] == [
        ("timm:vit_base_patch16_224.orig_in21k", "finetune")
    ] * 2
    (first, plain), (second, _) = (
        (less, plain) for plain, less in zip(hours["off"], hours["auto"], strict=True) if less != plain
    )
    assert 0.25 < plain < 0.45  # a nineteenth of 6.9 hours
    assert first - second == pytest.approx(24 / 3600, abs=1 / 3600)
    assert second / plain == pytest.approx(0.82, abs=0.01)


def test_shots_of_absent_data_are_as_many_as_classes_give(nowhere, suite_file, tmp_path):
    suite = suite_file(
        "name: v\nbudgets: [5-shot]\nbackbones: [{name: raw_pixels, size_px: 8}]\ntasks: [cifar100, vtab/dtd]\n"
        "protocols: [ridge_probe]\n"
    )
    found = estimate.estimate(plan_suite(str(suite), tmp_path / "run", Overrides()).suite.jobs, "cpu")
    # A draw of a small pool is extracted with it, for other draws.
    assert [job.images_forward for job in found.jobs] == [500 + 10_000, 1_880 + 1_880]


def test_a_run_does_not_take_sizes_for_data(nowhere, suite_file, tmp_path):
    suite = suite_file(SUITE.replace("digits", "vtab/dtd"))
    ended = command("run", str(suite), "--out", str(tmp_path / "run"))
    assert ended.returncode == 3
    shown = command("run", str(suite), "--out", str(tmp_path / "run"), "--dry-run")
    assert shown.returncode == 0
    assert "1 data set not ready on this machine, counted by the reference's sizes" in shown.stderr
    assert "vitbench data prepare vtab/dtd" in shown.stderr


def test_a_dry_run_is_short_unless_it_is_asked_for_every_job(suite_file, tmp_path):
    suite = suite_file(
        SUITE.replace("[2-shot]", "[1-shot, 2-shot]").replace("name: e", "name: e\nseeds: [0, 1, 2]")
    )
    brief = command("run", str(suite), "--out", str(tmp_path / "run"), "--dry-run").stdout.splitlines()
    assert [line.split(None, 3)[2] for line in brief] == ["3", "3"]
    assert brief[0].endswith("timm:resnet10t · ridge_probe · 1-shot · digits × 3 seeds")
    every = command("run", str(suite), "--out", str(tmp_path / "run"), "--dry-run", "--verbose").stdout
    assert len(every.splitlines()) == 6
