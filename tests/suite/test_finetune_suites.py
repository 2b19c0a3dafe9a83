"""The fine-tuning suites: what they ask for, and VTAB's whole way through on miniatures."""

import pytest
import yaml

import vitbench
from tests.making.boards import VTAB
from tests.making.command import vitbench as command
from vitbench.backbones.catalog import catalog
from vitbench.engine.estimate import estimate
from vitbench.engine.run import plan_suite
from vitbench.protocols.recipes import Case, recipes_for, tuning_of
from vitbench.report.page import render
from vitbench.report.published_match import rows_on_board
from vitbench.suite import Overrides, expand, packaged_suites, read_suite

# The jobs a suite asks for are tasks x seeds x backbones.
JOBS = {
    "vtab": 19 * 3 * 3,
    "bit-vtab": 19 * 3 * 3,
    "imagenet": 9,
    "cifar": 18,
    "pets-flowers": 18,
    "paper": 24 * 3 * 3,
}


@pytest.mark.parametrize("name", JOBS)
def test_a_suite_asks_for_its_paper(name):
    plan = expand(read_suite(packaged_suites()[name]), Overrides())
    assert len(plan.jobs) == JOBS[name]
    assert {job.seed for job in plan.jobs} == {0, 1, 2}
    assert {job.preprocess for job in plan.jobs} == {"squash"}
    assert {job.budget for job in plan.jobs} == {
        "1k" if job.task.name.startswith("vtab/") else "full" for job in plan.jobs
    }
    for job in plan.jobs:
        choice = recipes_for(job.protocol.options["recipe"], Case(job.task.name, 1000, 10**5), {})
        assert choice.departs == "", (job.task.name, choice.departs)


def test_peft_vtab_asks_for_five_methods_and_both_ways_to_normalise():
    jobs = expand(read_suite(packaged_suites()["peft-vtab"]), Overrides()).jobs
    assert len(jobs) == 19 * 5 * 2 * 3
    assert {tuning_of(job.protocol.options) for job in jobs} == {
        "lora",
        "vpt-deep",
        "vpt-shallow",
        "bias",
        "head",
    }
    assert {str(job.backbone.options.get("mean")) for job in jobs} == {"None", "[0.485, 0.456, 0.406]"}
    assert {job.backbone.argument for job in jobs} == {"vit_base_patch16_224.orig_in21k"}
    for job in jobs:
        (row, *_) = [*rows_on_board(job, ["vpt2022-vitb16", "noah2022-vitb16"]), None]
        expected = {"head": "linear"}.get(tuning_of(job.protocol.options), tuning_of(job.protocol.options))
        assert row is not None
        assert row.method == expected


SHORT = {"name": "finetune", "size_px": 32}
PART = {**SHORT, "recipe": "noah", "epochs": 12, "warmup_epochs": 2, "base_lr": 0.02}
WHOLE = {**SHORT, "epochs": 4, "warmup_epochs": 1, "batch_size": 20}
WAYS = {
    "lora": {**PART, "tune": "lora", "rank": 2},
    "vpt-deep": {**PART, "tune": "vpt-deep", "prompt_tokens": 3},
    "bias": {**PART, "tune": "bias"},
    "head": {**PART, "tune": "head"},
    "mae": {**WHOLE, "recipe": "mae"},
    "beit": {**WHOLE, "recipe": "beit"},
    "deit3": {**WHOLE, "recipe": "deit3"},
}


@pytest.mark.slow
def test_every_way_of_fine_tuning_runs_and_is_recorded(tmp_path):
    """From the suite to the record, on a committed backbone; repeated, it is the same, and it costs what was estimated."""
    suite = {
        "name": "ways", "budgets": ["5-shot"], "seeds": [0], "backbones": ["miniature:vit-1"], "tasks": ["digits"],
        "protocols": [{**options, "label": name} for name, options in WAYS.items()],
    }  # fmt: skip
    (tmp_path / "ways.yaml").write_text(yaml.safe_dump(suite))
    plan = plan_suite(str(tmp_path / "ways.yaml"), tmp_path / "run", Overrides())
    estimates = {each.key: each for each in estimate(plan.suite.jobs, "cpu", "h100").jobs}
    records = vitbench.run(tmp_path / "ways.yaml", tmp_path / "run")
    assert {record.failure for record in records} == {None}
    again = vitbench.run(tmp_path / "ways.yaml", tmp_path / "again")
    assert [r.metrics for r in again] == [r.metrics for r in records]
    by_way = {record.job.protocol.label: record for record in records}
    assert set(by_way) == set(WAYS)
    counts = {name: record.cost.trained_parameters for name, record in by_way.items()}
    params = by_way["head"].backbone.params
    assert counts["head"] < counts["vpt-deep"] < counts["lora"] < counts["bias"] < params < counts["mae"]
    for name, record in by_way.items():
        expected = estimates[record.key]
        assert (
            record.cost.images_backward
            == expected.images_backward
            == record.trials[-1].options["steps"] * (20 if name in ("mae", "beit", "deit3") else 50)
        )
        assert record.cost.images_forward == expected.images_forward
        passes = expected.flops_backward / expected.images_backward / record.cost.flops_per_image
        low, high = {"head": (1, 1), "mae": (3, 3), "beit": (3, 3), "deit3": (3, 3)}.get(name, (1.9, 2.6))
        assert low <= passes <= high
        tuned = [note for note in record.notes if "tuned: the head and" in note]
        assert bool(tuned) is (name in ("lora", "vpt-deep", "bias", "head"))
        assert record.trials[-1].options["tune"] == (name if tuned else "all")
        assert [check for check in record.conformance if check.ok is False]
    pooled = {
        name for name, record in by_way.items() if any("new LayerNorm" in note for note in record.notes)
    }
    assert pooled == {"mae", "beit"}
    page = render(records)
    assert page.count('data-key="trained"') == 4  # of the boards that tune a part


def test_scaling_asks_for_every_family_few_shot_and_full():
    jobs = expand(read_suite(packaged_suites()["scaling"]), Overrides()).jobs
    entries = {entry.alias: entry for entry in catalog()}
    few = {job.backbone.label for job in jobs if job.protocol.name == "ridge_probe"}
    full = {job.backbone.label for job in jobs if job.budget == "full"}
    assert few == full
    assert {entries[name].family for name in few} == {"ViT", "BiT", "Hybrid"}
    assert {job.budget for job in jobs} == {"5-shot", "10-shot", "full"}
    for job in jobs:
        if recipe := job.protocol.options.get("recipe"):
            is_bit = entries[job.backbone.label].family == "BiT"
            assert recipe == ("bit" if is_bit else "vit")


def test_a_suite_says_its_cost_and_what_to_expect():
    for name in (
        *JOBS,
        "peft-vtab",
        "imagenet-own-head",
        "imagenet-robustness",
        "vtab-frozen",
        "fewshot",
        "imagenet-fewshot",
        "scaling",
    ):
        opening = packaged_suites()[name].read_text().split("name:")[0]
        assert "# Cost" in opening, name
        assert "# Expected" in opening, name


# With neither augmentation, without crops, without flips.
FEW = ("vtab/dsprites_location", "vtab/dmlab", "vtab/smallnorb_azimuth")


@pytest.mark.slow
@pytest.mark.parametrize(
    "tasks", [FEW, pytest.param(VTAB, marks=pytest.mark.slow)], ids=["few tasks", "all tasks"]
)
def test_vtab_runs_on_miniatures(data_dir, tmp_path, tasks):
    """The command `vitbench run vtab.yaml --limit 64 --backbone …`, with its own budget and a short recipe."""
    suite = yaml.safe_load(packaged_suites()["vtab"].read_text())
    suite["defaults"] = {"backbones": {"pretrained": False}}
    suite["backbones"] = ["timm:vit_tiny_patch16_224"]
    suite["protocols"][0] |= {"size_px": 32, "resize_px": 40, "steps": 2, "batch_size": 8}
    (tmp_path / "vtab.yaml").write_text(yaml.safe_dump(suite))
    done = command(
        "run", tmp_path / "vtab.yaml", "--limit", 64, "--seeds", "0", "--out", tmp_path / "run",
        "--backbone", "timm:vit_tiny_patch16_224", *(f"--task={name}" for name in tasks if tasks != VTAB),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    records = vitbench.load_records(tmp_path / "run")
    assert {record.job.budget for record in records} == {"1k"}
    assert {record.failure for record in records} == {None}
    assert {record.job.task.name for record in records} == set(tasks)
    assert {"32 px" in record.preprocess for record in records} == {True}
    unflipped = {r.job.task.name for r in records if any("not flipped" in note for note in r.notes)}
    uncropped = {r.job.task.name for r in records if any("not cropped" in note for note in r.notes)}
    # BiT's exclusions (docs/protocols.md#flips-and-crops)
    assert unflipped == set(tasks) & {
        "vtab/dsprites_location",
        "vtab/dsprites_orientation",
        "vtab/smallnorb_azimuth",
    }
    assert uncropped == set(tasks) & {
        "vtab/dsprites_location", "vtab/clevr_count", "vtab/clevr_distance", "vtab/dmlab", "vtab/kitti_distance",
    }  # fmt: skip
