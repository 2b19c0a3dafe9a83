"""Published values beside measured ones: only if weights, data, protocol, recipe and image size agree, with a tolerance."""

import pytest

from tests.making.boards import NAMES, RECIPE, VTAB, board, component, made
from vitbench.core.conformance import ITEMS
from vitbench.core.record import Check, Trial
from vitbench.published import dataset_of, published
from vitbench.report.build import boards
from vitbench.report.leaderboard import any_published
from vitbench.report.published_match import HELD_TO_THE_ROW, rows_for, weights_of
from vitbench.report.published_steps import is_usual
from vitbench.report.seeded import is_seeded
from vitbench.report.tolerance import Runs, Tolerance, tolerance_of
from vitbench.suite import expand, read_suite

L16 = NAMES[0]
TASKS = ("vtab/caltech101", "vtab/flowers102")


@pytest.fixture
def base(tiny_records):
    return tiny_records[0]


def cells(records, **how):
    (found,) = boards(records, **how)
    return found, {
        column.label: cell for column, cell in zip(found.columns, found.rows[0].cells, strict=True)
    }


def seeds(base, values=(0.90, 0.91, 0.92), task=TASKS[0], backbone=L16, **changes):
    return [made(base, backbone, task, i, v, tasks=(task,), **changes) for i, v in enumerate(values)]


def test_a_cell_is_compared_with_the_papers_value(base):
    _, found = cells(seeds(base))
    known = found[TASKS[0]].published
    assert known.value == pytest.approx(
        0.908
    )  # arXiv 2010.11929, Table 9: ViT-L/16 of ImageNet-21k on Caltech101
    assert known.difference == pytest.approx(0.91 - 0.908)
    assert known.source.startswith("arXiv 2010.11929, Table 9")
    assert (known.verdict, known.basis, known.statistic) == ("wide", "seeds", "3 runs")  # 1.8 points
    assert known.tolerance > 0.015
    assert cells(seeds(base, (0.909, 0.910, 0.911)))[1][TASKS[0]].published.verdict == "within"
    assert cells(seeds(base, (0.959, 0.960, 0.961)))[1][TASKS[0]].published.verdict == "outside"


@pytest.mark.parametrize(
    "changes",
    [
        {"backbone": NAMES[1]},  # other weights: no row prints its VTAB tasks
        {"backbone_facts": {"size_px": 224}},
        {"budget": "full"},
        {"protocol": component("finetune", "finetune", **{**RECIPE, "recipe": "bit"})},
        {
            "protocol": component("finetune", "finetune", **{**RECIPE, "base_lr": 0.03})
        },  # the recipe was changed
        {"protocol": component("ridge_probe", "ridge_probe")},
        {"conformance": (Check(item="split", ok=False, reason="another"),)},
    ],
    ids=str,
)
def test_different_settings_are_not_compared(base, changes):
    facts = changes.pop("backbone_facts", None)
    if facts:
        changes["backbone"] = L16
        records = [
            r.model_copy(update={"backbone": r.backbone.model_copy(update=facts)}) for r in seeds(base)
        ]
    else:
        records = seeds(base, **changes)
    _, found = cells(records)
    assert found[TASKS[0]].published is None


def test_the_spread_is_pooled_over_the_networks_of_the_column(base):
    """One seed has the tolerance of the others' seeds; alone it has none."""
    alone = cells(seeds(base, values=(0.95,), seeds=1))[1][TASKS[0]].published
    assert (alone.verdict, alone.tolerance, alone.basis) == ("unknown", None, "unknown")
    others = seeds(base, (0.80, 0.81, 0.82), backbone=NAMES[1])
    (found,) = boards([*seeds(base, values=(0.95,)), *others])
    known = next(row for row in found.rows if row.backbone == L16.partition(".")[0]).cells[0].published
    # Student's t of two degrees of freedom, one run against the mean of three, and half of 0.1 points
    assert known.tolerance == pytest.approx(4.302653 * 0.01 * (1 + 1 / 3) ** 0.5 + 0.0005)
    assert known.verdict == "wide"


def test_without_anything_random_only_rounding_and_an_allowance_are_tolerated(base):
    """Half a point of kNN's accuracy is a fault, not chance."""
    protocol = component("knn", "knn", k=20, temperature=0.07)
    assert not is_seeded(seeds(base, budget="full", protocol=protocol)[0].job)
    printed = Runs(0.83, 1)
    assert tolerance_of(Runs(0.825, 1), printed, None, None, seeded=False) == Tolerance(
        0.001, "nothing random"
    )


def test_weights_are_found_through_the_papers_other_tables():
    by_id = {row.id: row for row in published()}
    assert weights_of(by_id["vit2021-t9-vit-l16-i21k"]) == L16
    assert weights_of(by_id["vit2021-t9-vit-h14-jft"]) == ""  # not public


def test_tasks_have_their_published_names():
    assert {dataset_of(task) for task in VTAB} == {
        "caltech101", "cifar100", "dtd", "oxford_flowers102", "oxford_iiit_pet", "sun397", "svhn", "patch_camelyon",
        "eurosat", "resisc45", "diabetic_retinopathy", "clevr_count", "clevr_distance", "dmlab", "dsprites_location",
        "dsprites_orientation", "kitti_distance", "smallnorb_azimuth", "smallnorb_elevation",
    }  # fmt: skip
    assert dataset_of("imagenet", "real") == "imagenet_real"
    assert dataset_of("digits") == ""


def test_published_rows_are_on_boards_of_their_method_without_a_rank(base):
    records = board(base, NAMES[:2], tuple(VTAB))
    (found,) = boards(records, published=["vit2021-"])
    shown = [row for row in found.rows if row.published]
    assert [row.backbone for row in shown] == ["ViT-H/14", "ViT-L/16 (JFT-300M)", "ViT-L/16 (ImageNet-21k)"]
    assert [row.rank for row in found.rows] == [1, 2, None, None, None]
    assert [100 * row.mean for row in shown] == pytest.approx(
        [77.63, 76.28, 72.72], abs=0.08
    )  # as printed in Table 2
    assert [row.compute.core_days for row in shown] == [2500, 680, 230]
    assert not any_published(boards(records))
    (full,) = boards(board(base, NAMES[:1], tuple(VTAB), budget="full"), published=["vit2021-"])
    assert not any(row.published for row in full.rows)  # 1,000 examples are not all of them


def test_rows_with_other_splits_are_not_in_the_columns_of_vtab(base):
    records = board(base, NAMES[:1], ("cifar100", "vtab/cifar100"), budget="full")
    (found,) = boards(records, published=["vit2021-t2-vit-h14"])
    (shown,) = [row for row in found.rows if row.published]
    by_column = dict(zip(found.tasks, shown.cells, strict=True))
    assert by_column["cifar100"].value == pytest.approx(0.9455)
    assert by_column["vtab/cifar100"].value is None


def test_a_suite_may_ask_for_published_rows(base):
    (found,) = boards(board(base, NAMES[:1], tuple(VTAB), published=("vit2021-t9",)))
    assert sum(row.published for row in found.rows) == 3


def test_a_limited_board_has_none(base):
    records = [r.model_copy(update={"job": r.job.model_copy(update={"limit": 64})}) for r in seeds(base)]
    found, cell = cells(records, published=["vit2021-"])
    assert not any(row.published for row in found.rows)
    assert cell[TASKS[0]].published is None


def test_core_days_are_as_published_or_marked_as_converted(base):
    (found,) = boards(board(base, [NAMES[4], NAMES[3]], TASKS))
    by_name = {row.backbone: row.compute for row in found.rows}
    bit, huge = by_name["resnetv2_152x4_bit"], by_name["vit_huge_patch14_224"]
    assert (bit.core_days, bit.estimated) == (pytest.approx(940), None)
    assert bit.core_days_source == "arXiv 2105.01601 (Mixer) Table 2"  # BiT's own paper does not print it
    assert huge.core_days is None  # ViT-H/14 of ImageNet-21k: nobody prints it
    (shown,) = boards(board(base, NAMES[:1], ("cifar100",), budget="full"), published=["vit2021-t6-vit-b16"])
    row = next(row for row in shown.rows if row.published)
    low, high = row.compute.estimated
    assert low < row.compute.core_days < high
    assert "exaFLOP" in row.compute.core_days_source


def with_backbone(records, weights="pretrained", **options):
    """The records with other options of the backbone, or other weights."""
    changed = []
    for record in records:
        backbone = record.job.backbone.model_copy(
            update={"options": {**record.job.backbone.options, **options}}
        )
        job = record.job.model_copy(update={"backbone": backbone})
        facts = record.backbone.model_copy(update={"weights": weights})
        changed.append(record.model_copy(update={"job": job, "key": job.key, "backbone": facts}))
    return changed


@pytest.mark.parametrize(
    "how",
    [
        {"weights": "untrained", "pretrained": False},
        {"checkpoint": "my.safetensors"},
        {"pooling": "mean"},
        {"last_layers": 4},
        {"position_resize": "timm"},
    ],
    ids=str,
)
def test_only_unchanged_published_weights_are_compared(base, how):
    stock = {
        "pretrained": True,
        "checkpoint": None,
        "pooling": "own",
        "last_layers": 1,
        "position_resize": "own",
        "size_px": 384,
    }
    _, found = cells(with_backbone(seeds(base), **stock))
    assert found[TASKS[0]].published is not None
    board_, found = cells(with_backbone(seeds(base), **{**stock, **how}))
    assert found[TASKS[0]].published is None
    assert board_.rows[0].compute.core_days is None


SPECS = ["timm:vit_base_patch16_224.orig_in21k", "knn", "logistic_probe", "ridge_probe", "finetune"]


@pytest.mark.parametrize("spec", SPECS)
def test_a_suite_that_changes_no_option_is_compared(spec, suite_file):
    """Every option at its default is that of the published rows: a new option must be listed with its default."""
    backbone, protocol = (spec, "knn") if spec.startswith("timm:") else ("raw_pixels", spec)
    text = f"name: s\nbudgets: [full]\nbackbones: ['{backbone}']\ntasks: [digits]\nprotocols: [{protocol}]\n"
    (job,) = expand(read_suite(suite_file(text))).jobs
    assert is_usual(job.backbone if spec.startswith("timm:") else job.protocol)


def test_a_stated_departure_of_a_recipe_does_not_hide_the_value(base):
    """vit_jax's recipe always departs, and is compared with vit_jax's rows nonetheless; any other item still counts."""
    assert set(HELD_TO_THE_ROW) <= set(ITEMS)
    departs = Check(item=HELD_TO_THE_ROW[0], ok=False, reason="all test images are scored")
    other = Check(item="split", ok=False, reason="another")
    protocol = component("finetune", "finetune", **{**RECIPE, "recipe": "vit-released"})
    for checks, printed in (((departs,), 0.8453), ((departs, other), None), ((), None)):
        how = {"protocol": protocol, "backbone": NAMES[1], "conformance": checks}
        known = cells(seeds(base, (0.85, 0.851), task="imagenet", budget="full", **how))[1][
            "imagenet"
        ].published
        assert (known and known.value) == (printed and pytest.approx(printed))


def on_imagenet(base, recipe, size_px):
    protocol = component("finetune", "finetune", **{**RECIPE, "recipe": recipe})
    records = seeds(base, (0.85, 0.851, 0.852), task="imagenet", budget="full", protocol=protocol)
    records = [
        r.model_copy(update={"backbone": r.backbone.model_copy(update={"size_px": size_px})}) for r in records
    ]
    return cells(records)[1]["imagenet"].published


@pytest.mark.parametrize(
    ("recipe", "size_px", "printed"),
    [("vit-table2", 512, 0.8530), ("vit", 384, 0.8515), ("vit", 512, None), ("vit-table2", 384, None)],
)
def test_the_papers_two_protocols_on_imagenet_are_not_mixed(base, recipe, size_px, printed):
    """Table 2 is averaged and at 512 px, Table 5 neither."""
    known = on_imagenet(base, recipe, size_px)
    assert (known and known.value) == (printed and pytest.approx(printed))


def test_a_row_with_other_settings_is_not_compared(base):
    """The released CIFAR numbers of BiT are of batch 128 at 0.001, by their own note."""
    protocol = component("finetune", "finetune", **{**RECIPE, "recipe": "bit-released"})
    records = seeds(
        base, task="cifar10", budget="full", protocol=protocol, backbone="resnetv2_50x1_bit.goog_in21k"
    )
    records = [
        r.model_copy(update={"backbone": r.backbone.model_copy(update={"size_px": 128})}) for r in records
    ]
    assert cells(records)[1]["cifar10"].published is None


@pytest.mark.parametrize(("dropout", "printed"), [(0.0, 0.8447), (0.1, 0.8505), (0.2, None)])
def test_the_value_with_the_runs_dropout_is_compared(base, dropout, printed):
    """vit_jax's README has ViT-L/16 on ImageNet without and with dropout 0.1."""
    protocol = component("finetune", "finetune", **{**RECIPE, "recipe": "vit-released"})
    trial = Trial(options={"dropout": dropout}, split="train", metric="loss", value=0.1, chosen=True)
    records = seeds(base, (0.85, 0.851), task="imagenet", budget="full", protocol=protocol, trials=(trial,))
    known = cells(records)[1]["imagenet"].published
    assert (known and known.value) == (printed and pytest.approx(printed))


def test_mean_per_class_accuracy_is_not_top1(base):
    protocol = component("logistic_probe", "logistic_probe", c="val", values=45)
    records = seeds(base, task="oxford_iiit_pet", budget="full", protocol=protocol)
    (found,) = boards(records, published=["dinov2-t8-"])
    shown = [row for row in found.rows if row.published]
    assert shown == []  # Pets is all that the board has


def test_equal_seeds_do_not_determine_the_tolerance(base):
    known = cells(seeds(base, (0.91, 0.91, 0.91)))[1][TASKS[0]].published
    assert (known.verdict, known.tolerance) == ("unknown", None)


def test_other_test_images_are_another_column(base):
    one = seeds(base)
    other = [
        r.model_copy(
            update={"data": r.data.model_copy(update={"fingerprints": {"test": "0" * 64}}), "job": r.job}
        )
        for r in seeds(base, backbone=NAMES[1])
    ]
    (found,) = boards([*one, *other])
    assert len(found.columns) == 2
    assert all(label.startswith(f"{TASKS[0]} #") for label in found.tasks)
    assert [row.mean for row in found.rows] == [None, None]


@pytest.mark.parametrize(
    ("preset", "compared"), [("dinov2_knn", True), ("squash", False), ("torchvision", False)]
)
def test_dinov2s_results_are_compared_under_its_own_preset(base, preset, compared):
    backbone = component("timm", argument="vit_small_patch14_dinov2.lvd142m", pretrained=True)
    job = base.job.model_copy(
        update={
            "backbone": backbone,
            "protocol": component("knn", "knn", k=20),
            "budget": "full",
            "preprocess": preset,
        }
    )
    facts = base.backbone.model_copy(update={"weights": "pretrained"})
    record = base.model_copy(update={"job": job, "backbone": facts})
    assert bool([row.id for row in rows_for(record, "imagenet")]) == compared
