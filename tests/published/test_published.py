"""The published rows: complete, cited, and consistent with the means that their sources state."""

import json

import pytest

from tests.making.command import vitbench
from vitbench.published import MEANS, published, rows_of, unmet_means


def test_all_rows_are_there_with_source_protocol_and_resolution():
    rows = published()
    assert len(rows) == 351
    assert sum(len(row.results) for row in rows) == 2386
    assert len({row.id for row in rows}) == 351
    for row in rows:
        assert row.source.paper
        assert row.protocol
        assert "resolution" in row.model_fields_set


def test_stated_means_are_those_of_the_rows_values():
    rows = published()
    stated = sum(
        name in row.results and not row.results[name].derived and all(part in row.results for part in parts)
        for row in rows
        for name, parts in MEANS.items()
    )
    assert stated == 99
    assert [text for row in rows for text in unmet_means(row)] == []


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
