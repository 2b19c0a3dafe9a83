"""The published rows: complete, cited, and consistent with the means that their sources state."""

import json
import re
import statistics

import pytest

from tests.making.command import vitbench
from vitbench.published import MEANS, VTAB_GROUPS, Value, published, rows_of, unmet_means


def test_all_rows_are_there_with_source_protocol_and_resolution():
    rows = published()
    assert len(rows) == 351
    assert sum(len(row.results) for row in rows) == 2542
    assert len({row.id for row in rows}) == 351
    for row in rows:
        assert row.source.paper
        assert row.protocol
        assert "resolution" in row.model_fields_set


def test_every_value_has_a_source_and_a_locator():
    """A table, section or file; rows that were read in a repository name its commit, the others a paper."""
    for row in published():
        assert row.source.table, row.id
        if row.verified == "primary-repo":
            assert re.fullmatch("[0-9a-f]{40}", row.source.commit), row.id
        else:
            assert row.source.arxiv, row.id


def test_means_are_those_of_the_rows_values_within_rounding():
    rows = published()
    recomputed = [
        row.results[name].derived
        for row in rows
        for name, parts in MEANS.items()
        if name in row.results and all(part in row.results for part in parts)
    ]
    assert (recomputed.count(False), recomputed.count(True)) == (99, 137)
    assert [text for row in rows for text in unmet_means(row)] == []


@pytest.mark.parametrize(("by", "found"), [(0.04, 0), (0.07, 1)])
def test_a_wrong_mean_is_found(by, found):
    """Nineteen values to a tenth and their mean to a hundredth are rounded by 0.055 at most."""
    row = next(row for row in published() if row.id == "vit2021-t9-vit-l16-i21k")
    values = {name: value for name, value in row.results.items() if name != "vtab_mean"}
    mean = statistics.fmean(value.value for value in values.values())
    stated = {"vtab_mean": Value(value=round(mean + by, 2))}
    assert len(unmet_means(row.model_copy(update={"results": values | stated}))) == found


def test_means_over_all_values_of_a_row_are_recomputed():
    """Means that only one source has: of VPT's fine-grained data sets, and of twelve of DINOv2's Table 8."""
    checked = 0
    for row in published():
        for name in ("fgvc_mean", "avg12"):
            if name in row.results:
                others = [value.value for key, value in row.results.items() if key != name]
                rounding = 0.05 + 0.5 * 10 ** -row.results[name].decimals
                assert statistics.fmean(others) == pytest.approx(row.results[name].value, abs=rounding), (
                    row.id
                )
                checked += 1
    assert checked == 10


def test_vtabs_mean_is_that_of_its_groups_by_their_sizes():
    """Where a source prints no values by task, groups and mean must still agree."""
    checked = 0
    for row in published():
        groups = [row.results.get(f"vtab_{group}") for group in VTAB_GROUPS]
        if "vtab_mean" in row.results and all(groups):
            sizes = [len(tasks) for tasks in VTAB_GROUPS.values()]
            mean = sum(size * value.value for size, value in zip(sizes, groups, strict=True)) / 19
            # A derived mean is that of values to a tenth.
            rounding = 0.06 if row.results["vtab_mean"].derived else 0.01
            assert row.results["vtab_mean"].value == pytest.approx(mean, abs=rounding), row.id
            checked += 1
    assert checked == 39


@pytest.mark.parametrize(
    ("row_id", "task", "value"),
    [
        ("vit2021-t2-vit-h14-jft", "imagenet", 88.55),
        ("vit2021-t2-vit-l16-jft", "oxford_flowers102", 99.74),
        ("vit2021-t9-vit-h14-jft", "clevr_count", 91.7),
        ("vit2021-t9-vit-h14-jft", "vtab_mean", 77.63),
    ],
)
def test_values_are_as_printed(row_id, task, value):
    (row,) = (row for row in published() if row.id == row_id)
    assert row.results[task].value == value


def test_weak_evidence_is_marked_and_resolutions_are_by_task():
    assert sum(row.is_weak for row in published()) == 12
    row = next(row for row in published() if row.id == "vit2021-t2-vit-h14-jft")
    assert (row.resolution_of("imagenet"), row.resolution_of("cifar10")) == (518, 384)
    assert all(
        found.timm == "vit_base_patch16_224.augreg_in21k"
        for found in rows_of("vit_base_patch16_224.augreg_in21k")
    )


def test_they_can_be_listed():
    rows = json.loads(vitbench("list", "published", "vit2021-t2", "--json").stdout)
    assert {row["source"]["arxiv"] for row in rows} == {"2010.11929"}
    assert "Table 2" in vitbench("list", "published", "vit2021-t2-vit-h14").stdout


@pytest.mark.parametrize(
    ("model", "family"),
    [
        ("ViT-L/16", "ViT"), ("DINOv2 ViT-B/14 +reg", "ViT"), ("vit_base_patch16_224.augreg_in1k", "ViT"),
        ("R50x1+ViT-L/16", "Hybrid"), ("ViT-R26+S/32 AugReg", "Hybrid"),
        ("vit_large_r50_s32_224.augreg_in21k_ft_in1k", "Hybrid"),
        ("vit_tiny_r_s16_p8_224.augreg_in21k_ft_in1k", "Hybrid"),
        ("BiT-M R50x1", "BiT"), ("ResNet50x1", "BiT"), ("resnetv2_50x1_bit.goog_in21k_ft_in1k", "BiT"),
        ("ResNet-50 (BN+WS)", "CNN"), ("Noisy Student EfficientNet-L2", "EfficientNet"), ("Mixer-B/16", "Mixer"),
        ("Swin-B", "other"),
    ],
)  # fmt: skip
def test_families_are_by_the_models_name(model, family):
    row = next(row for row in published() if row.model == model)
    assert row.family == family


# A second transcription of the README of google-research/big_transfer at commit 140de6e, "Expected results", PyTorch column:
# model, examples per class, data set: minimum, median, maximum; ImageNet: one run.
BIT_README = """\
BiT-M R101x3  1    cifar10  56.4 56.7 73.1
BiT-M R101x3  5    cifar10  84.8 85.8 89.6
BiT-M R101x3  full cifar10  98.5 98.6 98.6
BiT-M R101x3  1    cifar100 31.6 33.8 36.9
BiT-M R101x3  5    cifar100 70.6 71.6 71.7
BiT-M R101x3  full cifar100 91.1 91.2 91.4
BiT-M R152x2  1    cifar10  50.9 55.5 59.5
BiT-M R152x2  5    cifar10  85.3 85.8 88.6
BiT-M R152x2  full cifar10  98.5 98.5 98.6
BiT-M R152x2  1    cifar100 34.3 36.8 39.0
BiT-M R152x2  5    cifar100 70.3 72.0 72.3
BiT-M R152x2  full cifar100 91.2 91.3 91.4
BiT-M R50x1   1    cifar10  45.8 57.9 65.7
BiT-M R50x1   5    cifar10  80.3 82.3 84.9
BiT-M R50x1   full cifar10  97.4
BiT-M R50x1   1    cifar100 34.6 35.2 38.6
BiT-M R50x1   5    cifar100 64.7 65.5 66.0
BiT-M R50x1   full cifar100 86.6
BiT-M R50x1   1    imagenet 18.36
BiT-M R50x1   5    imagenet 50.64
BiT-M R50x1   full imagenet 80.68
BiT-M R152x2  1    imagenet 24.5
BiT-M R152x2  5    imagenet 64.5
BiT-M R152x2  full imagenet 85.15
BiT-M R101x3  1    imagenet 25.55
BiT-M R101x3  5    imagenet 64.18
BiT-M R152x4  full vtab_mean        73.51
BiT-M R152x4  full vtab_natural     80.77
BiT-M R152x4  full vtab_structured  61.08
BiT-M R152x4  full vtab_specialized 85.67
BiT-M R101x3  full vtab_mean        72.65
BiT-M R101x3  full vtab_natural     80.29
BiT-M R101x3  full vtab_structured  59.40
BiT-M R101x3  full vtab_specialized 85.75
"""


def test_the_rows_of_bits_readme_are_those_of_its_tables():
    wanted = {}
    for line in BIT_README.splitlines():
        family, size, shots, task, *values = line.split()
        low, middle, high = map(float, values * 3 if len(values) == 1 else values)
        wanted[f"{family} {size}", shots, task] = (
            (middle, low, high) if len(values) == 3 else (middle, None, None)
        )
    found = {}
    for row in published():
        if row.id.startswith("bit-readme-"):
            shots = {"1shot": "1", "5shot": "5"}.get(row.id.rpartition("-")[2], "full")
            for task, result in row.results.items():
                found[row.model, shots, task] = (result.value, result.min, result.max)
    assert found == wanted


def test_a_value_lies_between_its_minimum_and_maximum():
    results = [(row.id, task, result) for row in published() for task, result in row.results.items()]
    spread = [(name, task, r) for name, task, r in results if r.min is not None and r.max is not None]
    assert len(spread) > 15
    assert [(name, task) for name, task, r in spread if not r.min <= r.value <= r.max] == []
