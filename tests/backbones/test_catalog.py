"""The catalog: every alias is a timm name with correct figures, and training data is marked."""

import json

import pytest
import timm

import vitbench
from tests.making.command import vitbench as vitbench_command
from vitbench.backbones.catalog import catalog, entry_of, notes_on, trained_on, traps
from vitbench.backbones.models.unfilled import on_meta
from vitbench.backbones.timm_names import not_timm
from vitbench.core.registry import BACKBONES

ENTRIES = catalog()
OF_TIMM = [entry for entry in ENTRIES if entry.spec.startswith("timm:")]


def test_aliases_and_specs_are_unique():
    assert len({entry.alias for entry in ENTRIES}) == len({entry.spec for entry in ENTRIES}) == len(ENTRIES)
    assert {"vit-b16-i21k", "bit-m-r50x1", "effnet-l2-ns"} <= {entry.alias for entry in ENTRIES}


def test_what_is_not_timms_ships_with_vitbench_or_in_a_package():
    others = {entry.spec.partition(":")[0] for entry in ENTRIES if entry not in OF_TIMM}
    assert others == {"miniature", "packaged"}  # tests/backbones/test_miniatures.py, test_real_weights.py


@pytest.mark.parametrize("entry", OF_TIMM, ids=lambda entry: entry.alias)
def test_an_alias_is_a_model_of_timm_with_these_figures(entry):
    registered, argument = BACKBONES.get(entry.alias)
    assert f"{registered.name}:{argument}" == entry.spec
    assert not_timm(argument) is None
    config = timm.get_pretrained_cfg(argument)
    assert config.tag == argument.partition(".")[2]
    assert trained_on(config.tag) == entry.trained_on
    with on_meta():
        model = timm.create_model(argument.partition(".")[0], pretrained=False, num_classes=0)
    params = sum(parameter.numel() for parameter in model.parameters())
    if entry.params_m is not None:
        assert params / 1e6 == pytest.approx(entry.params_m, abs=0.006)
    half = entry.family in ("ViT", "Hybrid", "BiT") and not entry.alias.startswith("dinov2")
    assert (config.mean[0] == 0.5) == half  # docs/protocols.md#model-names


def test_misleading_names_have_a_note(capsys):
    for spec in traps():
        assert not_timm(spec.removeprefix("timm:")) is None
    default = timm.get_pretrained_cfg("vit_base_patch16_224").tag
    assert default in traps()["timm:vit_base_patch16_224"]


@pytest.mark.parametrize(
    ("spec", "notes"),
    [
        ("timm:vit_large_patch16_224.orig_in21k", ["GELU by its tanh", "without the layer pre_logits"]),
        (
            "timm:vit_huge_patch14_224.orig_in21k",
            ["GELU by its tanh", "without the layer pre_logits", "392 px"],
        ),
        ("timm:vit_small_patch16_224.augreg_in21k", ["GELU by its tanh"]),
        ("timm:vit_base_patch16_224.augreg2_in21k_ft_in1k", []),  # fine-tuned by timm, with timm's network
        ("timm:vit_base_patch16_siglip_224.webli", ["GELU by its tanh"]),
        ("timm:vit_so400m_patch14_siglip_378.webli_ft_in1k", []),
        ("timm:flexivit_base.1200ep_in1k", ["GELU by its tanh"]),
        ("timm:mixer_b16_224.goog_in21k", ["GELU by its tanh"]),
        ("timm:vit_base_patch14_dinov2.lvd142m", ["at 224 px"]),
        ("timm:vit_base_patch16_224", ["fine-tuned on ImageNet-1k"]),
        ("timm:resnet50.a1_in1k", []),
        ("timm:vit_base_patch16_224.mae", []),
    ],
)
def test_traps_are_noted_by_the_full_name(spec, notes):
    found = notes_on(spec)
    assert len(found) == len(notes)
    assert all(part in note for part, note in zip(notes, found, strict=True))


def test_the_list_shows_the_notes():
    shown = vitbench_command("list", "backbones", "timm:vit_huge_patch14_224.orig*").stdout
    assert "note: fine-tuned at 392 px" in shown
    rows = json.loads(vitbench_command("list", "backbones", "vit-h14", "--json").stdout)
    assert len(rows[0]["notes"]) == 3


def test_an_alias_in_a_suite_is_its_full_spec_under_the_short_label(suite_file, tmp_path):
    suite = suite_file(
        "name: c\nbudgets: [full]\nbackbones: [{name: effnet-b0-ns, pretrained: false, size_px: 32}]\n"
        "tasks: [digits]\nprotocols: [knn]\n"
    )
    (record,) = vitbench.run(suite, tmp_path / "run")
    assert record.failure is None
    assert record.job.backbone.spec == "timm:tf_efficientnet_b0.ns_jft_in1k"
    assert record.job.backbone.label == "effnet-b0-ns"
    assert record.backbone.weights == "untrained"
    assert record.backbone.trained_on == ()  # randomly initialised


@pytest.mark.parametrize(
    ("tag", "seen"),
    [
        ("augreg_in21k", ()),
        ("augreg_in21k_ft_in1k", ("imagenet2012",)),
        ("ns_jft_in1k_475", ("imagenet2012",)),
        ("a1_in1k", ("imagenet2012",)),
        ("goog_teacher_in21k_ft_in1k_384", ("imagenet2012",)),
        ("lvd142m", ()),
        ("fb_in22k", ()),
        ("laion2b", ()),
        ("my_own", None),
        ("", None),
    ],
)
def test_timm_tags_give_the_data_sets_trained_on(tag, seen):
    assert trained_on(tag) == seen


def test_known_compute_is_stated_with_its_source():
    stated = {entry.alias: entry for entry in ENTRIES if entry.tpu_v3_core_days}
    assert {name: entry.tpu_v3_core_days for name, entry in stated.items()} == {
        "vit-l16-i21k": 230,
        "bit-m-r152x4": 940,
        "effnet-l2-ns": 12300,
    }
    assert all(entry.compute_source.startswith("arXiv") for entry in stated.values())
    assert entry_of("timm:vit_large_patch16_224.orig_in21k").tpu_v3_core_days == 230
