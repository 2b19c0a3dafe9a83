"""Google's .npz checkpoints against the reference's numbers, in every array layout."""

import json

import numpy as np
import pytest
import torch

import vitbench
from tests.making.npz import golden, images, saved, weights
from vitbench.backbones.check import check_backbone
from vitbench.backbones.npz import load
from vitbench.core.errors import DataMissingError, UsageError

VIT_TOLERANCE, HIGH_TOLERANCE, BIT_TOLERANCE = 1e-5, 1e-4, 5e-5  # ../golden/README.md


def near(found, wanted, tolerance):
    return np.abs(found.detach().numpy() - wanted).max() < tolerance


CASES = pytest.mark.parametrize("tag", ["a", "b"])


@CASES
def test_a_vit_gives_the_references_features_and_logits(tag, tmp_path):
    wanted = golden(f"vit_{tag}")
    backbone = load(saved(weights(wanted["spec"], tag), tmp_path))
    assert backbone.input.size_px == 64
    assert (backbone.pre_logits is not None) == (tag == "b")
    assert near(backbone.features(images(7, 64)), wanted["features"], VIT_TOLERANCE)
    assert near(backbone.logits(images(7, 64)), wanted["logits"], VIT_TOLERANCE)


@CASES
def test_position_embeddings_are_resized_as_in_the_paper(tag, tmp_path):
    wanted = golden(f"vit_{tag}")
    backbone = load(saved(weights(wanted["spec"], tag), tmp_path))
    high = backbone.at_resolution(96)
    assert high.input.size_px == 96
    assert near(high.model.pos_embed, wanted["posembed_hi"], VIT_TOLERANCE)
    assert near(high.features(images(8, 96)), wanted["features_hi"], HIGH_TOLERANCE)
    assert near(high.logits(images(8, 96)), wanted["logits_hi"], HIGH_TOLERANCE)
    assert near(
        backbone.features(images(7, 64)), wanted["features"], VIT_TOLERANCE
    )  # the original is unchanged
    other = load(saved(weights(wanted["spec"], tag), tmp_path), "timm").at_resolution(96)
    assert not near(other.features(images(8, 96)), wanted["features_hi"], 1e-2)


def test_a_bit_gives_the_references_features_and_logits(tmp_path):
    wanted = golden("bit_a")
    backbone = load(saved(weights(wanted["spec"], "a"), tmp_path))
    assert backbone.provenance.family == "BiT"
    found = backbone.at_resolution(96)
    assert near(found.features(images(9, 96)), wanted["features"], BIT_TOLERANCE)
    assert near(found.logits(images(9, 96)), wanted["logits"], BIT_TOLERANCE)


def big_vision(arrays):
    """The same weights under big_vision's names."""
    return {
        name.replace("Transformer/posembed_input/pos_embedding", "pos_embedding")
        .replace("MultiHeadDotProductAttention_1", "MultiHeadDotProductAttention_0")
        .replace("MlpBlock_3", "MlpBlock_0")
        .replace("LayerNorm_2", "LayerNorm_1"): value
        for name, value in arrays.items()
    }


def scanned(arrays):
    """Stack all blocks along a leading axis."""
    kept = {name: value for name, value in arrays.items() if "encoderblock_" not in name}
    names = {name.split("encoderblock_0/")[1] for name in arrays if "encoderblock_0/" in name}
    for name in names:
        both = [arrays[f"Transformer/encoderblock_{i}/{name}"] for i in range(2)]
        kept[f"Transformer/encoderblock/{name}"] = np.stack(both)
    return kept


def without_class_slot(arrays):
    """Newer big_vision: no position embedding for the class token; it is already added to that token."""
    positions = arrays["Transformer/posembed_input/pos_embedding"]
    return {
        **arrays,
        "Transformer/posembed_input/pos_embedding": positions[:, 1:],
        "cls": arrays["cls"] + positions[:, :1],
    }


LAYOUTS = {
    "training dump": lambda a: {f"opt/target/{k}": v for k, v in a.items()} | {"opt/state/step": np.ones(())},
    "params": lambda a: {f"params/{k}": v for k, v in a.items()},
    "big_vision": lambda a: {f"params/img/{k}": v for k, v in big_vision(a).items()},
    "scanned": lambda a: scanned(a),
    "big_vision scanned": lambda a: scanned(big_vision(a)),
    "no class slot": without_class_slot,
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_array_layout_gives_the_same_model(layout, tmp_path):
    wanted = golden("vit_b")
    path = saved(LAYOUTS[layout](weights(wanted["spec"], "b")), tmp_path)
    assert near(load(path).features(images(7, 64)), wanted["features"], VIT_TOLERANCE)


def test_numbered_names_of_bit_files_are_understood(tmp_path):
    wanted = golden("bit_a")
    arrays = {
        name.replace("/standardized_conv2d/", f"/standardized_conv2d_{i}/").replace(
            "/group_norm/", f"/group_norm_{i}/"
        ): value
        for i, (name, value) in enumerate(weights(wanted["spec"], "a").items())
    }
    assert near(load(saved(arrays, tmp_path)).features(images(9, 96)), wanted["features"], BIT_TOLERANCE)


def test_bfloat16_arrays_are_read(tmp_path):
    arrays = weights(golden("vit_a")["spec"], "a")
    raw = {name: (value.view(np.uint32) >> 16).astype(np.uint16).view("V2") for name, value in arrays.items()}
    found = load(saved(raw, tmp_path)).features(images(7, 64))
    assert near(found, golden("vit_a")["features"], 0.1)


def hybrid_weights(rng):
    """A small R+ViT in the released layout: stages of 1, 1 and 2 units, 4 x 4 tokens."""
    spec = {
        k: v for k, v in json.loads(str(golden("vit_a")["spec"])).items() if not k.startswith("embedding")
    }
    arrays = weights(json.dumps(spec), "a")
    arrays |= {
        "embedding/kernel": rng.normal(0, 0.03, (1, 1, 1024, 96)),
        "embedding/bias": rng.normal(0, 0.05, 96),
    }
    arrays |= {"conv_root/kernel": rng.normal(size=(7, 7, 3, 64))}
    norms = [("gn_root", 64)]
    before = 64
    for stage, units in enumerate((1, 1, 2), start=1):
        middle = 64 * 2 ** (stage - 1)
        for unit in range(1, units + 1):
            name = f"block{stage}/unit{unit}"
            arrays[f"{name}/conv1/kernel"] = rng.normal(size=(1, 1, before, middle))
            arrays[f"{name}/conv2/kernel"] = rng.normal(size=(3, 3, middle, middle))
            arrays[f"{name}/conv3/kernel"] = rng.normal(size=(1, 1, middle, 4 * middle))
            norms += [(f"{name}/gn{i}", width) for i, width in ((1, middle), (2, middle), (3, 4 * middle))]
            if unit == 1:
                arrays[f"{name}/conv_proj/kernel"] = rng.normal(size=(1, 1, before, 4 * middle))
                norms.append((f"{name}/gn_proj", 4 * middle))
            before = 4 * middle
    for name, width in norms:
        arrays |= {f"{name}/scale": 1 + rng.normal(0, 0.1, width), f"{name}/bias": rng.normal(0, 0.05, width)}
    return {name: np.asarray(value, np.float32) for name, value in arrays.items()}


def reference_root(arrays, x):
    """The hybrid's ResNet in NumPy-like float64 torch, as described in docs/protocols.md#hybrids: vit_jax's residual units."""
    import torch.nn.functional as F

    def same(x, kernel, stride, value=0.0):
        pads = [max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in x.shape[2:]]
        return F.pad(
            x, (pads[1] // 2, pads[1] - pads[1] // 2, pads[0] // 2, pads[0] - pads[0] // 2), value=value
        )

    def conv(x, name, stride=1):
        w = torch.from_numpy(arrays[f"{name}/kernel"]).double()
        w = (w - w.mean((0, 1, 2))) / (w.std((0, 1, 2), unbiased=False) + 1e-5)
        return F.conv2d(same(x, w.shape[0], stride), w.permute(3, 2, 0, 1), stride=stride)

    def norm(x, name):
        scale, bias = (torch.from_numpy(arrays[f"{name}/{part}"]).double() for part in ("scale", "bias"))
        return F.group_norm(x, 32, scale, bias, eps=1e-6)

    x = F.relu(norm(conv(x, "conv_root", 2), "gn_root"))
    x = F.max_pool2d(same(x, 3, 2, -torch.inf), 3, 2)
    for stage, units in enumerate((1, 1, 2), start=1):
        for unit in range(1, units + 1):
            name, stride = f"block{stage}/unit{unit}", 2 if stage > 1 and unit == 1 else 1
            residual = x
            if f"{name}/conv_proj/kernel" in arrays:
                residual = norm(conv(x, f"{name}/conv_proj", stride), f"{name}/gn_proj")
            y = F.relu(norm(conv(x, f"{name}/conv1"), f"{name}/gn1"))
            y = F.relu(norm(conv(y, f"{name}/conv2", stride), f"{name}/gn2"))
            x = F.relu(residual + norm(conv(y, f"{name}/conv3"), f"{name}/gn3"))
    return x


def test_the_resnet_of_a_hybrid_equals_flax(tmp_path):
    arrays = hybrid_weights(np.random.default_rng(0))
    backbone = load(saved(arrays, tmp_path))
    assert (backbone.provenance.family, backbone.input.size_px) == ("Hybrid", 64)
    found = backbone.model.patch_embed.backbone(images(7, 64))
    wanted = reference_root(arrays, images(7, 64).double())
    assert (found.double() - wanted).abs().max() < 1e-4 * wanted.abs().max()
    assert backbone.features(images(7, 64)).shape == (4, 96)
    assert backbone.at_resolution(96).features(images(8, 96)).shape == (4, 96)


def golden_of(name):
    """A golden of big_vision or vision_transformer, its weights, and the image batch that it was made with."""
    wanted = golden(name)
    return (
        wanted,
        weights(wanted["spec"], "shared"),
        images(int(wanted["image_seed"]), int(wanted["image_px"]))[:3],
    )


@pytest.mark.parametrize(
    ("name", "family"), [("hybrid_r26", "Hybrid"), ("hybrid_root", "Hybrid"), ("vit_map", "ViT")]
)
def test_hybrids_of_any_stride_and_attention_pooling_equal_the_references(name, family, tmp_path):
    wanted, arrays, batch = golden_of(name)
    backbone = load(saved(arrays, tmp_path))
    assert (backbone.provenance.family, backbone.input.size_px) == (family, int(wanted["image_px"]))
    assert near(backbone.features(batch), wanted["features"], HIGH_TOLERANCE)
    if "logits" in wanted:
        assert near(backbone.logits(batch), wanted["logits"], HIGH_TOLERANCE)
    assert backbone.provenance.load.unused == ()


def test_attention_pooling_is_read_from_scanned_blocks_too(tmp_path):
    wanted, arrays, batch = golden_of("vit_map")
    plain = {name.removeprefix("params/img/"): value for name, value in arrays.items()}
    path = saved({f"params/img/{name}": value for name, value in scanned(plain).items()}, tmp_path)
    assert near(load(path).features(batch), wanted["features"], HIGH_TOLERANCE)


def test_the_report_counts_what_was_read_and_names_the_rest(tmp_path):
    arrays = weights(golden("vit_b")["spec"], "b")
    extra = {f"params/txt/layer_{i}/kernel": np.ones(2) for i in range(12)} | {"params/t": np.ones(1)}
    named = {f"params/img/{name}": value for name, value in arrays.items()} | {
        "params/img/strange": np.ones(1)
    }
    load_report = load(saved(named | extra, tmp_path)).provenance.load
    assert load_report.in_file == len(arrays) + 1 + 13
    assert load_report.used == len(arrays) - 2
    assert load_report.left_out == ("head/bias", "head/kernel")
    assert load_report.unused == ("params… (13)", "strange")
    del named["params/img/strange"]
    assert load(saved(named, tmp_path)).provenance.load.unused == ()


def test_fine_tuning_starts_without_pre_logits_and_nothing_counts_the_classifier(tmp_path):
    """As the paper's App. B.1.1 and vit_jax's checkpoint.py: features before the layer, and only its parameters fewer."""
    wanted = golden("vit_b")
    backbone = load(saved(weights(wanted["spec"], "b"), tmp_path))
    bare = backbone.trainable()
    count = lambda module: sum(p.numel() for p in module.parameters())  # noqa: E731
    assert count(backbone) - count(bare) == 96 * 96 + 96
    assert not any("head" in name or "classifier" in name for name, _ in backbone.named_parameters())
    batch = images(7, 64)
    assert torch.allclose(
        torch.tanh(backbone.pre_logits(bare.features(batch))), backbone.features(batch), atol=1e-6
    )
    assert near(backbone.logits(batch), wanted["logits"], VIT_TOLERANCE)
    assert bare.at_resolution(96).pre_logits is None
    assert (
        load(saved(weights(golden("vit_a")["spec"], "a"), tmp_path, "a.npz")).trainable().pre_logits is None
    )


def test_a_file_with_pre_logits_is_fine_tuned_without_it(tmp_path, suite_file):
    path = saved(weights(golden("vit_b")["spec"], "b"), tmp_path)
    suite = suite_file(
        f"name: n\nbudgets: [2-shot]\nlimit: 20\nbackbones: [{{name: 'npz:{path}'}}]\ntasks: [digits]\n"
        "protocols: [{name: finetune, recipe: vit, steps: 2, batch_size: 4, size_px: 64, base_lr: 0.01}]\n"
    )
    (record,) = vitbench.run(suite, tmp_path / "run")
    assert record.failure is None
    assert record.backbone.feature_dim == 96
    whole = load(path)
    assert record.backbone.params == sum(p.numel() for p in whole.trainable().parameters())
    assert any("pre_logits" in note for note in record.notes)
    findings = check_backbone(f"npz:{path}")
    assert [finding for finding in findings if finding.ok is False] == []


def test_unusable_files_are_refused_with_the_reason(tmp_path):
    with pytest.raises(DataMissingError, match="does not exist"):
        load(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(UsageError, match=r"is not a \.npz file of plain arrays"):
        load(tmp_path / "text.npz")
    np.savez(tmp_path / "pickled.npz", a=np.asarray([{}], dtype=object))
    with pytest.raises(UsageError, match=r"is not a \.npz file of plain arrays"):
        load(tmp_path / "pickled.npz")
    with pytest.raises(UsageError, match="is not a ViT checkpoint that vitbench can read"):
        load(saved({"a": np.ones(3)}, tmp_path))
    arrays = weights(golden("vit_a")["spec"], "a")
    del arrays["Transformer/encoderblock_1/MlpBlock_3/Dense_1/bias"]
    with pytest.raises(UsageError, match="Dense_1/bias"):
        load(saved(arrays, tmp_path))
    headless = {
        name: value for name, value in weights(golden("vit_a")["spec"], "a").items() if "head" not in name
    }
    with pytest.raises(ValueError, match="no classifier"):
        load(saved(headless, tmp_path)).logits(images(7, 64))


def test_a_suite_names_a_file_and_its_key_depends_on_the_content(tmp_path, suite_file):
    path = saved(weights(golden("vit_a")["spec"], "a"), tmp_path, "first.npz")
    text = """\
name: n
budgets: [2-shot]
backbones: [{name: "npz:first.npz", pretrain_data: ImageNet-21k}]
tasks: [digits]
protocols: [ridge_probe]
"""
    (record,) = vitbench.run(suite_file(text), tmp_path / "run", seeds=[0])
    assert record.failure is None
    assert (record.backbone.family, record.backbone.weights, record.backbone.size_px) == (
        "ViT",
        "pretrained",
        64,
    )
    assert record.backbone.pretrain_data == "ImageNet-21k"
    path.rename(tmp_path / "second.npz")
    renamed = suite_file(text.replace("first", "second"))
    (again,) = vitbench.run(renamed, tmp_path / "run", seeds=[0])
    assert again.created == record.created  # the same weights under another name: nothing to do
    with pytest.raises(DataMissingError, match="does not exist"):
        vitbench.run(suite_file(text.replace("first", "third")), tmp_path / "run")
