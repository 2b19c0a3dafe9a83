"""A checkpoint gives the features that timm gives, in every layout; what was taken is said, what is missing is refused."""

import argparse
import copy

import pytest
import safetensors.torch
import timm
import torch

from vitbench.backbones.timm import timm_backbone
from vitbench.core.errors import DataMissingError, UsageError

SIZE = 64
ARCHITECTURES = {
    "vit_tiny_patch16_224": {"img_size": SIZE},
    "resnet10t": {},
    "convnext_atto": {},
}


def trained(name, seed=0):
    """A model with a classifier, as if trained: norms and biases are no longer at their initial values."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = timm.create_model(name, num_classes=7, **ARCHITECTURES.get(name, {}))
        for weight in model.parameters():
            weight.data += 0.02 * torch.randn_like(weight)
        for key, buffer in model.named_buffers():
            if "running" in key:
                buffer += 0.1 * torch.rand_like(buffer)
    return model.eval()


def images(size_px=SIZE):
    return torch.rand(2, 3, size_px, size_px, generator=torch.Generator().manual_seed(1)) * 2 - 1


def wanted(model, pixels):
    """The input of timm's classifier."""
    seen = []
    hook = model.get_classifier().register_forward_pre_hook(lambda _module, given: seen.append(given[0]))
    with torch.no_grad():
        model(pixels)
    hook.remove()
    return seen[0]


def features(name, path, size_px=SIZE, **options):
    backbone = timm_backbone(name, checkpoint=path, **options)
    with torch.no_grad():
        return backbone.at_resolution(size_px).eval().features(images(size_px)), backbone.provenance


def prefixed(prefix, state):
    return {prefix + key: value for key, value in state.items()}


def noise(state):
    return {
        key: torch.randn_like(value) if value.is_floating_point() else value for key, value in state.items()
    }


# What surrounds a state dict in files of training loops, and what is said to be taken.
LAYOUTS = {
    "bare": lambda s: (s, ""),
    "state_dict": lambda s: ({"state_dict": s, "epoch": 3}, "state_dict"),
    "model": lambda s: ({"model": s}, "model"),
    "DataParallel": lambda s: (prefixed("module.", s), "module"),
    "compiled": lambda s: (prefixed("_orig_mod.", s), "_orig_mod"),
    "compiled DataParallel": lambda s: ({"state_dict": prefixed("module._orig_mod.", s)}, "state_dict.module._orig_mod"),
    "timm train.py": lambda s: (
        {
            "epoch": 1, "arch": "x", "state_dict": noise(s), "state_dict_ema": s, "args": argparse.Namespace(lr=0.1),
            "optimizer": {"state": {0: {"momentum_buffer": torch.ones(3)}}, "param_groups": [{}]}, "version": 2, "metric": 50.0,
        },
        "state_dict_ema, not state_dict: the averaged weights",
    ),
    "averaged only": lambda s: ({"state_dict_ema": s}, "state_dict_ema"),
    "DeiT": lambda s: ({"model": noise(s), "model_ema": s, "args": argparse.Namespace()}, "model_ema, not model"),
    "Lightning": lambda s: (
        {"state_dict": prefixed("net.", s), "hyper_parameters": {"lr": 1.0}, "pytorch-lightning_version": "2"},
        "state_dict.net",
    ),
    "DINO": lambda s: (
        {"student": prefixed("module.backbone.", noise(s)), "teacher": prefixed("backbone.", s)},
        "teacher.backbone, not student.module.backbone: the averaged weights",
    ),
    "DINOv2 training": lambda s: (
        {"teacher": prefixed("backbone.", s) | {"dino_head.mlp.0.weight": torch.ones(3, 3)}}, "teacher.backbone"
    ),
    "MoCo v3": lambda s: (
        {
            "arch": "x",
            "state_dict": prefixed("module.base_encoder.", s) | prefixed("module.momentum_encoder.", noise(s))
            | {"module.predictor.0.weight": torch.ones(3)},
        },
        "state_dict.module.base_encoder, not state_dict.module.momentum_encoder: the network that its authors evaluate",
    ),
    "without counters": lambda s: ({k: v for k, v in s.items() if "num_batches_tracked" not in k}, ""),
    "half precision": lambda s: ({k: v.half().float() for k, v in s.items()}, ""),
    "without head": lambda s: ({k: v for k, v in s.items() if not k.startswith(("head.fc", "fc.", "head.w", "head.b"))}, ""),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_layout_gives_the_features_that_timm_gives(name, layout, tmp_path):
    model = trained(name)
    content, taken = LAYOUTS[layout](model.state_dict())
    if layout == "half precision":
        model.load_state_dict(content)
    torch.save(content, tmp_path / "w.pth")
    found, origin = features(name, tmp_path / "w.pth")
    assert torch.equal(found, wanted(model, images()))
    assert taken in origin.load.taken
    assert bool(taken) == bool(origin.load.taken)
    assert origin.load.used >= len([key for key in model.state_dict() if "num_batches" not in key]) - 2
    assert origin.load.unused == (("module.momentum_encoder… (…)",) if layout == "never" else ())


@pytest.mark.parametrize("layout", ["timm train.py", "DeiT", "DINO"])
def test_the_weights_that_are_not_averaged_can_be_chosen(layout, tmp_path):
    model, other = trained("resnet10t"), trained("resnet10t", seed=1)
    content, _ = LAYOUTS[layout](model.state_dict())
    key = {"timm train.py": "state_dict", "DeiT": "model", "DINO": "student"}[layout]
    content[key] = (
        prefixed("module.backbone.", other.state_dict()) if layout == "DINO" else other.state_dict()
    )
    torch.save(content, tmp_path / "w.pth")
    found, origin = features("resnet10t", tmp_path / "w.pth", weights="raw")
    assert torch.equal(found, wanted(other, images()))
    assert origin.load.taken.startswith(key)
    assert origin.load.taken.endswith("weights: raw")
    chosen, _ = features("resnet10t", tmp_path / "w.pth", weights="ema")
    assert torch.equal(chosen, wanted(model, images()))


@pytest.mark.parametrize(("given", "asked"), [("state_dict", "ema"), ("state_dict_ema", "raw")])
def test_weights_that_the_file_does_not_have_are_refused(given, asked, tmp_path):
    torch.save({given: trained("resnet10t").state_dict()}, tmp_path / "w.pth")
    with pytest.raises(UsageError, match=r"has no .* weights"):
        features("resnet10t", tmp_path / "w.pth", weights=asked)


def test_two_networks_that_fit_equally_are_refused(tmp_path):
    first, second = (trained("resnet10t", seed).state_dict() for seed in (0, 1))
    torch.save(prefixed("left.", first) | prefixed("right.", second), tmp_path / "w.pth")
    with pytest.raises(UsageError, match="two networks that fit timm:resnet10t: 'left' and 'right'"):
        features("resnet10t", tmp_path / "w.pth")
    torch.save(prefixed("left.", first) | prefixed("right.", first), tmp_path / "w.pth")
    assert torch.equal(features("resnet10t", tmp_path / "w.pth")[0], wanted(trained("resnet10t"), images()))


class Stranger:
    """A class that no other machine has."""


def test_objects_beside_the_weights_are_skipped(tmp_path):
    model = trained("resnet10t")
    torch.save({"model": model.state_dict(), "config": {"x": [Stranger()]}}, tmp_path / "w.pth")
    assert torch.equal(features("resnet10t", tmp_path / "w.pth")[0], wanted(model, images()))


def test_a_whole_pickled_model_is_refused(tmp_path):
    torch.save(trained("resnet10t"), tmp_path / "w.pth")
    with pytest.raises(UsageError, match="a whole pickled object, which is never executed"):
        features("resnet10t", tmp_path / "w.pth")


def test_a_vit_trained_at_another_size_keeps_its_position_embeddings(tmp_path):
    """timm would resize them to the architecture's 518 px, and back."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = timm.create_model("vit_small_patch14_dinov2", img_size=112, depth=2).eval()
    state = {k: v for k, v in model.state_dict().items() if not k.startswith("blocks")}
    state |= {
        k: v
        for k, v in timm.create_model("vit_small_patch14_dinov2", img_size=112).state_dict().items()
        if k not in state
    }
    torch.save(state, tmp_path / "w.pth")
    backbone = timm_backbone("vit_small_patch14_dinov2", checkpoint=tmp_path / "w.pth")
    assert backbone.input.size_px == 112
    assert torch.equal(backbone.model.pos_embed, state["pos_embed"])
    assert "built with img_size 112" in backbone.provenance.notes[0]
    asked = timm_backbone("vit_small_patch14_dinov2", checkpoint=tmp_path / "w.pth", size_px=112)
    assert torch.equal(asked.model.pos_embed, state["pos_embed"])


def meta_layout(state, registers):
    """DINOv2 as Meta saves it: a position embedding for the class token, a mask token, registers under their own name."""
    positions, token = state["pos_embed"], state["cls_token"]
    if registers:
        positions = torch.cat([0.3 * torch.ones_like(token), positions], 1)
        token = token - 0.3
    named = {k.replace("reg_token", "register_tokens"): v for k, v in state.items()}
    return named | {"pos_embed": positions, "cls_token": token, "mask_token": torch.ones(1, token.shape[-1])}


@pytest.mark.parametrize("name", ["vit_small_patch14_dinov2", "vit_small_patch14_reg4_dinov2"])
def test_metas_own_files_are_read(name, tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = timm.create_model(name, img_size=518).eval()
    torch.save(meta_layout(model.state_dict(), "reg4" in name), tmp_path / "w.pth")
    backbone = timm_backbone(name, checkpoint=tmp_path / "w.pth")
    assert backbone.provenance.load.unused == ()
    for key, value in model.state_dict().items():
        assert torch.allclose(backbone.model.state_dict()[key], value, atol=1e-6), key


def test_a_fine_tuned_mae_has_its_head_on_the_mean_of_patches(tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = timm.create_model(
            "vit_tiny_patch16_224", img_size=SIZE, global_pool="avg", num_classes=7
        ).eval()
    torch.save({"model": model.state_dict()}, tmp_path / "w.pth")
    found, origin = features("vit_tiny_patch16_224", tmp_path / "w.pth")
    assert torch.equal(found, wanted(model, images()))
    assert "global_pool avg" in origin.notes[0]
    high, _ = features("vit_tiny_patch16_224", tmp_path / "w.pth", size_px=96)
    assert high.shape == (2, 192)


@pytest.mark.slow
def test_a_mismatch_shows_both_sides_and_a_name_that_fits(tmp_path):
    torch.save(trained("resnet14t").state_dict(), tmp_path / "w.pth")
    with pytest.raises(UsageError) as caught:
        features("resnet26t", tmp_path / "w.pth")
    (problem,) = caught.value.problems
    assert (
        " weights found; the file lacks layer1.1.conv1.weight, layer1.1.bn1.weight, layer1.1.bn1.bias and "
        in problem.what
    )
    assert "timm:resnet14t" in problem.nearest
    torch.save(noise(trained("resnet10t").state_dict()), tmp_path / "r.pth")
    with pytest.raises(
        UsageError, match=r"the model does not have layer1.0.bn1.bias, layer1|the model does not have"
    ) as caught:
        features("vit_tiny_patch16_224", tmp_path / "r.pth")
    assert (
        "0 of 150 weights found; the file lacks cls_token, pos_embed, patch_embed.proj.weight and 147 more"
        in str(caught.value)
    )


@pytest.mark.slow
def test_weights_that_a_conversion_would_resize_are_refused(tmp_path):
    torch.save(
        timm.create_model("vit_tiny_patch16_224", img_size=128, patch_size=32).state_dict(),
        tmp_path / "w.pth",
    )
    with pytest.raises(UsageError, match=r"patch_embed.proj.weight has shape \(192, 3, 32, 32\), expected"):
        features("vit_tiny_patch16_224", tmp_path / "w.pth")


def test_a_path_that_does_not_exist_names_the_nearest_file(tmp_path):
    safetensors.torch.save_file(
        copy.deepcopy(trained("resnet10t").state_dict()), tmp_path / "last.safetensors"
    )
    with pytest.raises(DataMissingError) as caught:
        features("resnet10t", tmp_path / "lst.safetensors")
    assert caught.value.problems[0].nearest == ("last.safetensors",)
    assert "save" not in str(caught.value)


def test_a_damaged_file_says_what_is_wrong_in_one_sentence(tmp_path):
    (tmp_path / "w.pth").write_bytes(b"not weights at all")
    with pytest.raises(UsageError) as caught:
        features("resnet10t", tmp_path / "w.pth")
    assert "weights_only=False" not in str(caught.value)
    assert len(caught.value.problems[0].what) < 300


def test_weights_of_unknown_origin_are_not_said_to_be_clean(tmp_path):
    torch.save(trained("resnet10t").state_dict(), tmp_path / "w.pth")
    origin = timm_backbone("resnet10t", checkpoint=tmp_path / "w.pth").provenance
    assert (origin.trained_on, origin.pretrain_data) == (None, "unknown")
    assert "does not say how pixels were normalised" in origin.pixels_unknown
    half = (0.5, 0.5, 0.5)
    stated = timm_backbone("resnet10t", checkpoint=tmp_path / "w.pth", mean=half, std=half).provenance
    assert stated.pixels_unknown == stated.pixel_warning == ""
