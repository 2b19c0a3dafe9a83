"""Every one of the published rows: what is planned is right, or what stands in the way is true.

The facts that plans are held to are stated here once more, from docs/protocols.md and the papers, and from timm's registry.
"""

import re
from dataclasses import replace
from functools import cache

import pytest
import timm
import yaml

from tests.making.boards import metric
from tests.making.paths import ROOT
from vitbench.cli.reproduce import suite_text
from vitbench.core.conformance import ITEMS
from vitbench.core.record import Check, Trial
from vitbench.core.registry import PROTOCOLS, TASKS
from vitbench.engine.components import load_all
from vitbench.protocols.recipe import TUNINGS
from vitbench.protocols.recipes import Case, recipes_for
from vitbench.published import MEANS, VTAB, published
from vitbench.report.published_match import PIXELS, matching_rows
from vitbench.report.published_method import image_size
from vitbench.report.reproduction import chosen_tasks, plan_row
from vitbench.report.verdict import basis, verdicts
from vitbench.suite import expand, read_suite

load_all()
ROWS = {row.id: row for row in published()}
RATES = [0.001, 0.003, 0.01, 0.03]
# Model and data of a row, and timm's name (docs/protocols.md#model-names).
WEIGHTS = {
    ("ViT-B/16", "ImageNet-21k"): "vit_base_patch16_224.orig_in21k",
    ("ViT-B/32", "ImageNet-21k"): "vit_base_patch32_224.orig_in21k",
    ("ViT-L/16", "ImageNet-21k"): "vit_large_patch16_224.orig_in21k",
    ("ViT-L/32", "ImageNet-21k"): "vit_large_patch32_224.orig_in21k",
    ("R50+ViT-B/16", "ImageNet-21k"): "vit_base_r50_s16_224.orig_in21k",
    ("BiT-M R50x1", "ImageNet-21k"): "resnetv2_50x1_bit.goog_in21k",
    ("BiT-M R101x3", "ImageNet-21k"): "resnetv2_101x3_bit.goog_in21k",
    ("BiT-M R152x2", "ImageNet-21k"): "resnetv2_152x2_bit.goog_in21k",
    ("BiT-M R152x4", "ImageNet-21k"): "resnetv2_152x4_bit.goog_in21k",
    **{
        (f"DINOv2 ViT-{letter}/14{reg}", "LVD-142M"): f"vit_{name}_patch14{tokens}_dinov2.lvd142m"
        for letter, name in (("S", "small"), ("B", "base"), ("L", "large"), ("g", "giant"))
        for reg, tokens in (("", ""), (" +reg", "_reg4"))
    },
}  # fmt: skip
# Of a data set: labelled examples, side of its images (small or large), parameters decide nothing here but for R152x4.
DATA = {
    "imagenet": 1_281_167,
    "cifar10": 50_000,
    "cifar100": 50_000,
    "oxford_iiit_pet": 3_680,
    "oxford_flowers102": 1_020,
}
SMALL = {"cifar10", "cifar100", "svhn", "eurosat", "dsprites_location", "dsprites_orientation"}
VIT_STEPS = {
    "imagenet": 20_000,
    "cifar10": 10_000,
    "cifar100": 10_000,
    "oxford_iiit_pet": 500,
    "oxford_flowers102": 500,
}


PROMPT_RATES = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0]
# Of VPT's methods and NOAH's: 100 epochs of 1,000 examples in steps, rates for 256 images, batch (VPT:tune_vtab.py).
TUNED = {
    "vpt": (8 * 100, PROMPT_RATES, 128),
    "linear": (1 * 100, PROMPT_RATES, 1_024),
    "full": (3 * 100, [0.0001, 0.0005, 0.001, 0.005], 384),
    "lora": (15 * 100, [0.001 * 256 / 64], 64),
}


def by_size(examples):
    """BiT's schedule for this many examples: steps, MixUp."""
    return (500, 0.0) if examples < 20_000 else (10_000, 0.1) if examples < 500_000 else (20_000, 0.1)


def wanted_recipe(row, dataset):
    """What the source did on a data set: steps, learning rates, image size, MixUp, Polyak averaging."""
    base = dataset.removesuffix("_real")
    if row.id.startswith("vit2021-"):
        if row.protocol == "vtab-1k-finetune":
            return 2_500, [0.01], 384, 0.0, None
        rates = [0.003, 0.01, 0.03, 0.06] if base == "imagenet" else RATES
        averaged = row.id.startswith("vit2021-t2-") and base == "imagenet"
        return VIT_STEPS[base], rates, 512 if averaged else 384, 0.0, 0.9999 if averaged else None
    if row.id.startswith("vit-readme-"):
        rate = 0.01 if (row.model, base) == ("ViT-B/16", "cifar10") else 0.03
        return VIT_STEPS[base], [rate], 384, 0.0, None
    if row.id.startswith(("vpt2022-", "noah2022-")):
        steps, rates, batch_size = TUNED[row.method.removesuffix("-shallow").removesuffix("-deep")]
        return steps, [rate * batch_size / 256 for rate in rates], 224, 0.0, None
    shots = re.search(r"finetune-(\d+)-per", row.protocol)
    classes = {"imagenet": 1_000, "cifar10": 10, "cifar100": 100}
    examples = 1_000 if "1k" in row.protocol else int(shots.group(1)) * classes[base] if shots else DATA[base]
    steps, mixup = by_size(examples)
    return (
        steps,
        [0.003],
        128 if base in SMALL else 480,
        mixup,
        None,
    )  # only R152x4 and released code are measurable


def wanted_dropout(row):
    """vit_jax's README states it; the papers have none."""
    stated = re.search(r"dropout (0\.\d),", row.note)
    return float(stated.group(1)) if stated else 0.0


def case_of(row, dataset, task):
    shots = re.search(r"finetune-(\d+)-per", row.protocol)
    classes = {"imagenet": 1_000, "cifar10": 10, "cifar100": 100}
    base = dataset.removesuffix("_real")
    examples = 1_000 if "1k" in row.protocol else int(shots.group(1)) * classes[base] if shots else DATA[base]
    params = {
        "ViT-B/16": 85.8e6,
        "R50+ViT-B/16": 97.9e6,
        "BiT-M R152x4": 928e6,
        "ViT-L/16": 303.3e6,
        "ViT-L/32": 305.5e6,
    }
    return Case(task, examples, 32 * 32 if base in SMALL else 300 * 300, int(params.get(row.model, 87e6)))


PLANS = {row_id: plan_row(row) for row_id, row in ROWS.items()}
MEASURABLE = [row_id for row_id, plan in PLANS.items() if plan.measurable]


def test_which_rows_can_be_measured():
    """Stated by hand: public weights that timm has, a protocol that is implemented, and an image size that is stated."""
    vits = ["b16", "b32", "l16", "l32"]
    wanted = {
        "vit2021-t2-vit-l16-i21k", "vit2021-t9-vit-l16-i21k", *(f"vit2021-t5-vit-{size}-i21k" for size in vits),
        "bit2020-t2-bit-m-r152x4", "bit2020-t2-bit-m-r152x4-vtab", "bit-readme-bit-m-r152x4-vtab",
        *(f"bit-readme-bit-m-{size}-{shots}shot" for size in ("r50x1", "r101x3", "r152x2") for shots in (1, 5)),
        "bit-readme-bit-m-r50x1-full", "bit-readme-bit-m-r152x2-full",
        *(f"vit-readme-{net}-i21k-do0.{rate}" for net in ("r50-vit-b16", *(f"vit-{s}" for s in vits)) for rate in (0, 1)),
        *(f"dinov2-card-vit-{size}14-{reg}{probe}" for size in "sblg" for reg in ("", "reg-") for probe in ("knn", "linear")),
        *(f"vpt2022-vitb16-i21k-vtab1k-{method}" for method in ("full", "linear", "vpt-shallow", "vpt-deep")),
        "noah2022-vitb16-i21k-vtab1k-lora",
        *(row_id for row_id, row in ROWS.items() if row.id.startswith("timm-") and row.protocol == "imagenet-eval"),
    }  # fmt: skip
    assert set(MEASURABLE) == wanted
    assert len(wanted) == 48 + 52
    assert "\nOne hundred rows can be measured" in (ROOT / "docs/reproduce.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("row_id", MEASURABLE)
def test_a_plan_is_right(row_id, tmp_path, monkeypatch):
    """Weights, tasks, budget, protocol, recipe, image size and seeds, each against the facts above."""
    row, plan = ROWS[row_id], PLANS[row_id]
    assert plan.weights == (row.timm if row_id.startswith("timm-") else WEIGHTS[row.model, row.pretrain_data])
    assert plan.weights in timm.list_pretrained(plan.weights)
    for value in plan.measurable:
        parts = MEANS.get(value.dataset, (value.dataset,))
        names = [TASKS.get(task)[0].name for task in value.tasks]
        assert len(names) == len(parts)
        for dataset, task in zip(parts, value.tasks, strict=True):
            assert task.startswith("vtab/") == row.protocol.startswith("vtab-")
            ours = task.removeprefix("vtab/")
            renamed = {"flowers102": "oxford_flowers102", "pets": "oxford_iiit_pet"}
            assert renamed.get(ours, ours) == dataset.removesuffix("_real")
            if plan.method.protocol == "finetune":
                changes = {name: value for name, value in plan.method.options.items() if name != "recipe"}
                recipes = recipes_for(plan.method.recipe, case_of(row, dataset, task), changes).recipes
                found = (
                    {recipe.steps for recipe in recipes}, sorted({r.base_lr for r in recipes}), recipes[0].size_px,
                    recipes[0].mixup_alpha, recipes[0].averaging,
                )  # fmt: skip
                steps, rates, size_px, mixup, averaging = wanted_recipe(row, dataset)
                assert found == ({steps}, pytest.approx(rates), size_px, mixup, averaging), (dataset, found)
                batch_size = TUNED[row.method.partition("-")[0]][2] if row.method else 512
                assert {recipe.batch_size for recipe in recipes} == {batch_size}
                assert {recipe.tune for recipe in recipes} == {
                    {"full": "all", "linear": "head", "": "all"}.get(row.method, row.method)
                }
                assert {recipe.dropout for recipe in recipes} == {wanted_dropout(row)}
        assert (value.metric == "real") == value.dataset.endswith("_real")
        if value.dataset not in MEANS:
            assert value.size_px == row.resolution_of(value.dataset)
    budget = {"1k": "vtab-1k", "1-shot": "1-per", "5-shot": "5-per", "full": "-full"}[plan.method.budget]
    assert budget in row.protocol or (row.protocol, plan.method.budget) == ("imagenet-eval", "full")
    probes = {"knn": "knn", "linear": "linear_probe"}
    protocol = probes.get(row_id.rpartition("-")[2], "own_head" if row_id.startswith("timm-") else "finetune")
    protocol = "finetune" if row_id.startswith("vpt2022-") else protocol
    assert plan.method.protocol == protocol
    assert len(plan.seeds) == (row.runs or 3)
    (backbone,) = plan.suite(plan.tasks)["backbones"]
    pixels = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    normalised = {name: value for name, value in backbone.items() if name in pixels}
    assert normalised == (pixels if row_id.startswith(("vpt2022-", "noah2022-")) else {})


@pytest.mark.parametrize("row_id", MEASURABLE)
def test_a_planned_job_once_measured_is_matched_by_exactly_that_row(
    row_id, tmp_path, monkeypatch, tiny_records
):
    """The suite expands without data or weights, and records of its jobs are compared with the row, and found within."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    row, plan = ROWS[row_id], PLANS[row_id]
    records = recorded(plan, tmp_path, tiny_records[0])
    seeds = 1 if plan.method.protocol in ("knn", "own_head") else len(plan.seeds)
    assert len(records) == len(plan.tasks) * seeds
    for value in plan.measurable:
        if value.dataset not in MEANS:
            own = [record for record in records if record.job.task.name in value.tasks]
            assert {found.id for found in matching_rows(own, value.dataset)} - same_setting(
                row, value.dataset
            ) == {row_id}
    found = verdicts(plan, plan.tasks, records)
    assert {verdict.dataset: verdict.outcome for verdict in found} == dict.fromkeys(
        (value.dataset for value in plan.measurable), "within"
    )
    assert max(abs(verdict.match.difference) for verdict in found) < 0.0007  # a mean of rounded values


def same_setting(row, dataset):
    """Rows that print the same setting again: ViT's Tables 2 and 5 differ on ImageNet only."""
    pair = {"vit2021-t2-vit-l16-i21k", "vit2021-t5-vit-l16-i21k"}
    return pair - {row.id} if row.id in pair and not dataset.startswith("imagenet") else set()


def recorded(plan, folder, base, **backbone):
    """Records of a plan's jobs with the values that the row prints on average; unprinted ones so that its means are met."""
    suite = folder / "suite.yaml"
    suite.write_text(suite_text(plan, plan.tasks))
    assert yaml.safe_load(suite.read_text())["published"] == [plan.row.id]
    sizes = {value.dataset: value.size_px for value in plan.values}
    found = []
    for job in expand(read_suite(suite)).jobs:
        names = [value.dataset for value in plan.measurable if value.tasks == (job.task.name,)]
        printed = [plan.row.results[name].value for name in names] or [mean_of(plan.row, job.task.name)]
        apart = 0.0005 * (job.seed - (job.suite.seeds - 1) / 2)  # seeds differ, and their mean is as printed
        scores = {
            name: metric(min(1.0, value / 100 + apart))
            for name, value in zip(("top1", "real"), printed, strict=False)
        }
        if names and names[0].endswith("_real"):
            scores = dict(reversed(scores.items()))
        facts = {
            "weights": "pretrained",
            "size_px": next((sizes[n] for n in names), None) or plan.measurable[0].size_px,
        }
        changed = {
            "job": job, "key": job.key, "metrics": scores, "trials": (trained(plan),),
            "conformance": (Check(item="split", ok=True),),
            "backbone": base.backbone.model_copy(update={**facts, **backbone}),
        }  # fmt: skip
        found.append(base.model_copy(update=changed))
    return found


def trained(plan):
    """The final run of a fine-tuned network, with the dropout rate of the row."""
    options = {"dropout": wanted_dropout(plan.row)}
    return Trial(options=options, split="train", metric="loss", value=0.1, chosen=True)


def mean_of(row, task):
    """A printed mean that a task belongs to, the narrowest."""
    name = {"flowers102": "oxford_flowers102", "pets": "oxford_iiit_pet"}.get(task[5:], task[5:])
    stated = [mean for mean in row.results if mean in MEANS and name in MEANS[mean]]
    return row.results[min(stated, key=lambda mean: len(MEANS[mean]))].value


# ---------------------------------------------------------------- what stands in the way


@cache
def sources():
    """All that our protocols and recipes name as their sources."""
    recipes = yaml.safe_load((ROOT / "vitbench/protocols/recipes.yaml").read_text())
    named = [entry.labels.get("source", "") for entry in PROTOCOLS.entries()]
    assert len([name for name in named if name]) >= 4
    return " ".join([*named, *(recipe["source"] for recipe in recipes.values())])


@cache
def tags(pattern):
    return {name.partition(".")[2] for name in timm.list_pretrained(pattern)}


@cache
def jft_weights():
    """The first parts of the names of all weights of timm's that were pre-trained on JFT-300M: Noisy Student's alone."""
    return {name.partition("_")[0] for name in timm.list_pretrained("*jft*")}


def not_ours(row):
    """Whether no protocol or recipe names a row's paper or file as its source."""
    return row.source.arxiv not in sources()


def recipe(name, **case):
    facts = {"task": "cifar10", "examples": 50_000, "area": 32 * 32, "params": 86 * 10**6, **case}
    return recipes_for(name, Case(**facts), {}).recipes[0]


TASK_NAMES = {entry.name for entry in TASKS.entries()}
# By sentence: whether it is true of a row and one of its data sets.
TRUE = {
    r"the test set (v2|a|r|sketch) of imagenet is not prepared here: vitbench data prepare imagenet_": lambda row, dataset: (
        dataset in ("imagenet_v2", "imagenet_a", "imagenet_r", "imagenet_sketch") and dataset in row.results
    ),
    r"weights pre-trained on (JFT-300M|JFT-3B) were not released": lambda row, _: (
        "JFT" in row.pretrain_data
        and jft_weights() == {"tf"}
        and not row.model.startswith("tf_efficientnet")
    ),
    r"the row is quoted from arXiv 1911.04252": lambda row, _: "Noisy Student" in row.model and "2003.08237" in row.note,
    r"networks pre-trained on ImageNet-1k alone were not released": lambda row, _: (
        row.pretrain_data == "ImageNet-1k" and {t for t in tags("vit_*") if t.startswith("orig_")}
        == {"orig_in21k", "orig_in21k_ft_in1k"}
    ),
    r"BiT-S is released as a file only": lambda row, _: (
        row.model.startswith("BiT-S") and {t for t in tags("resnetv2_*_bit*") if t.startswith("goog_in1k")} == set()
    ),
    r"BiT's study of normalisation": lambda row, _: (
        row.source.arxiv == "1912.11370" and re.fullmatch(r"ResNet-50 \((BN|GN)(\+WS)?\)", row.model) and row.timm is None
    ),
    r"the network starts from random weights": lambda row, _: "From-Scratch" in row.model,
    r"TensorFlow Hub module": lambda row, _: row.source.arxiv == "1910.04867" and "From-Scratch" not in row.model,
    r"ALIGN's EfficientNet-L2 was not released": lambda row, _: (
        row.model.startswith("ALIGN") and all(tag.startswith("ns_jft_in1k") for tag in tags("*efficientnet_l2*"))
    ),
    r"no weights of timm are named for this row": lambda row, _: row.timm is None and "JFT" not in row.pretrain_data,
    r"a released classifier is scored as it is": lambda row, _: (
        row.protocol == "imagenet-eval" and not any("eval" in entry.name for entry in PROTOCOLS.entries())
    ),
    r"the network is trained from scratch": lambda row, _: row.protocol == "imagenet-scratch",
    r"SSF, a scale": lambda row, _: row.method == "ssf" and "ssf" not in TUNINGS,
    r"NOAH's adapters": lambda row, _: row.method == "adapter" and "adapter" not in TUNINGS,
    r"NOAH's search": lambda row, _: row.method == "noah" and "noah" not in TUNINGS,
    r"no configuration for its search for biases": lambda row, _: row.id.startswith("vpt2022-") and row.method == "bias",
    r"VPT's recipes here are those for ViT-B/16": lambda row, _: (
        row.id.startswith("vpt2022-")
        and ("fgvc" in row.id or (row.model, row.pretrain_data) != ("ViT-B/16", "ImageNet-21k"))
    ),
    r"a search of hyper-parameters for each task": lambda row, _: "random hyper-parameter trials per task" in row.note,
    r"schedules of 500 and 1,000 steps": lambda row, _: row.note in ("500 steps", "1000 steps"),
    r"AugReg's fine-tuning": lambda row, _: not_ours(row),
    r"fine-tuning of the Mixer paper": lambda row, _: not_ours(row),
    r"the product of distillation": lambda row, _: not_ours(row),
    r"big_vision's own transfer settings": lambda row, _: "configs/transfer.py" not in sources(),
    r"no protocol of vitbench follows arXiv 2106.04560": lambda row, _: not_ours(row),
    r"(\w+), as the source splits it, is not among": lambda row, dataset: dataset not in TASK_NAMES,
    r"is a mean over data sets": lambda row, dataset: dataset in ("avg12", "fgvc_mean") and dataset not in MEANS,
    r"is mean per-class accuracy there": lambda row, dataset: (
        "mean per-class accuracy" in row.note
        and {"oxford_iiit_pet": "Pets", "caltech101": "Caltech-101", "oxford_flowers102": "Flowers"}[dataset] in row.note
    ),
    r"does not state the image size": lambda row, _: row.resolution is None,
    r"patches do not fill the row's 384 px": lambda row, _: row.resolution == 384 and "/14" in row.model and 384 % 14,
    r"recipe bit-released has images of 480 px here, the row of 384 px": lambda row, _: (
        row.resolution == 384 and recipe("bit-released", task="vtab/dtd", examples=1_000, area=10**5).size_px == 480
    ),
    r"no recipe has the settings .*batch 128": lambda row, dataset: (
        "CIFAR: batch 128" in row.note and dataset.startswith("cifar") and not row.protocol.startswith("vtab")
    ),
}  # fmt: skip


@pytest.mark.parametrize("row_id", [row_id for row_id, plan in PLANS.items() if plan.obstacles])
def test_what_stands_in_the_way_is_true(row_id):
    row, plan = ROWS[row_id], PLANS[row_id]
    assert {value.dataset for value in plan.values} == set(row.results)
    for value in plan.values:
        for dataset in MEANS.get(value.dataset, (value.dataset,)):
            for obstacle in value.obstacles:
                checks = [true for pattern, true in TRUE.items() if re.search(pattern, obstacle.what)]
                assert len(checks) == 1, obstacle.what
                (true,) = checks
                assert true(row, dataset), (dataset, obstacle.what)


def test_every_sentence_is_said_of_some_row():
    said = {obstacle.what for plan in PLANS.values() for obstacle in plan.obstacles}
    assert [pattern for pattern in TRUE if not any(re.search(pattern, what) for what in said)] == []


def test_a_row_without_an_obstacle_has_a_plan():
    """Nothing is left out in silence: every value is measurable, or says why not."""
    for plan in PLANS.values():
        for value in plan.values:
            assert value.obstacles or (plan.weights and plan.method and value.tasks and value.size_px)
    assert sum(len(plan.values) for plan in PLANS.values()) == sum(len(row.results) for row in ROWS.values())
    assert {len(v.tasks) for v in PLANS["vit2021-t9-vit-l16-i21k"].values if v.dataset == "vtab_mean"} == {
        len(VTAB)
    }


def test_small_images_have_small_crops():
    """BiT's rule, by the area of a data set's images; CIFAR's is the row's own size, the others are parts of a mean."""
    row, plan = ROWS["bit2020-t2-bit-m-r152x4-vtab"], PLANS["bit2020-t2-bit-m-r152x4-vtab"]
    sizes = {
        dataset: image_size(row, dataset, f"vtab/{dataset}", plan.weights, plan.method)[0] for dataset in VTAB
    }
    assert {dataset for dataset, size_px in sizes.items() if size_px == 128} == SMALL - {"cifar10"}
    assert {size_px for dataset, size_px in sizes.items() if dataset not in SMALL} == {480}


def test_a_mean_needs_all_of_its_tasks(tmp_path, monkeypatch, tiny_records):
    """BiT prints no values by task: with one task there is nothing to compare yet, and the missing ones are counted."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    plan = PLANS["bit2020-t2-bit-m-r152x4-vtab"]
    records = recorded(plan, tmp_path, tiny_records[0])
    (task,) = chosen_tasks(plan, ["dtd"])
    assert task == "vtab/dtd"
    (verdict,) = verdicts(plan, [task], [record for record in records if record.job.task.name == task])
    assert verdict.outcome == "not measured"
    assert "18 of 19 tasks have no score" in verdict.reasons[0]
    (verdict,) = verdicts(plan, plan.tasks, [record for record in records if record.job.seed != 1])
    assert (verdict.outcome, len(verdict.reasons)) == ("not measured", 19)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"backbone": {"weights": "untrained"}}, "other weights"),
        ({"backbone": {"size_px": 224}}, "image size"),
        ({"conformance": (Check(item="split", ok=False, reason="another split"),)}, "another split"),
        ({"conformance": (Check(item="pixels", ok=None, reason="nobody knows"),)}, "nobody knows"),
    ],
    ids=str,
)
@pytest.mark.parametrize("row_id", ["vit2021-t9-vit-l16-i21k", "bit2020-t2-bit-m-r152x4-vtab"])
def test_what_is_not_the_rows_setting_is_not_judged(
    row_id, change, words, tmp_path, monkeypatch, tiny_records
):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    plan = PLANS[row_id]
    records = recorded(plan, tmp_path, tiny_records[0], **change.get("backbone", {}))
    rest = {name: value for name, value in change.items() if name != "backbone"}
    found = verdicts(plan, plan.tasks, [record.model_copy(update=rest) for record in records])
    assert {verdict.outcome for verdict in found} == {"not comparable"}
    assert all(words in reason or "px" in reason for verdict in found for reason in verdict.reasons)


@pytest.mark.parametrize(
    ("row_id", "outcome"),
    [("vpt2022-vitb16-i21k-vtab1k-vpt-deep", "within"), ("vit2021-t9-vit-l16-i21k", "not comparable")],
)
def test_other_pixels_are_compared_with_rows_that_had_them(
    row_id, outcome, tmp_path, monkeypatch, tiny_records
):
    assert PIXELS in ITEMS
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    plan = PLANS[row_id]
    checks = (Check(item=PIXELS, ok=False, reason="normalised by other numbers"),)
    records = [
        record.model_copy(update={"conformance": checks})
        for record in recorded(plan, tmp_path, tiny_records[0])
    ]
    assert {verdict.outcome for verdict in verdicts(plan, plan.tasks, records)} == {outcome}
    as_trained = [
        record.model_copy(
            update={
                "job": record.job.model_copy(
                    update={"backbone": record.job.backbone.model_copy(update={"options": {}})}
                ),
                "conformance": (Check(item="split", ok=True),),
            }
        )
        for record in records
    ]
    (found,) = {verdict.outcome for verdict in verdicts(plan, plan.tasks, as_trained)}
    assert found == ("within" if outcome == "not comparable" else "not comparable")


def test_without_a_spread_over_seeds_no_tolerance_is_known(tmp_path, monkeypatch, tiny_records):
    """One seed of ours beside a value without a standard deviation: the difference is stated, and not judged."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    plan = replace(PLANS["vit2021-t5-vit-b16-i21k"], seeds=(0,))
    found = verdicts(plan, plan.tasks, recorded(plan, tmp_path, tiny_records[0]))
    assert {verdict.outcome for verdict in found} == {"no tolerance"}
    assert {verdict.match.tolerance for verdict in found} == {None}
    assert basis(found[0].match).startswith("none is known")


def test_a_difference_is_off_by_what_it_is(tmp_path, monkeypatch, tiny_records):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    plan = PLANS["vit2021-t2-vit-l16-i21k"]
    records = [
        record.model_copy(
            update={"metrics": {name: metric(one.value - 0.05) for name, one in record.metrics.items()}}
        )
        for record in recorded(plan, tmp_path, tiny_records[0])
    ]
    found = verdicts(plan, plan.tasks, records)
    assert {verdict.outcome for verdict in found} == {"off"}
    assert [verdict.match.difference for verdict in found] == pytest.approx([-0.05] * 6)
    assert {verdict.dataset for verdict in found} == set(ROWS[plan.row.id].results)
    assert replace(plan, values=()).measurable == ()
