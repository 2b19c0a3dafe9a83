import pickle

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_data_config
from torchvision import transforms

from vitbench.api import Provenance
from vitbench.backbones.models.positions import resize_position_embedding
from vitbench.backbones.models.timm import TimmBackbone
from vitbench.backbones.models.timm_weights import initialised
from vitbench.backbones.models.wrapper import BuiltBackbone
from vitbench.backbones.timm import timm_backbone
from vitbench.core.errors import UsageError
from vitbench.core.registry import BACKBONES
from vitbench.data.preprocess import apply, preset_of

NAME = "resnet10t"


@pytest.fixture
def state():
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return timm.create_model(NAME, num_classes=7).state_dict()


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("prefix", ["", "module.", "module.backbone."])
@pytest.mark.parametrize("wrapped", [False, True])
def test_local_checkpoints_load_in_any_wrapping(state, tmp_path, suffix, prefix, wrapped):
    path = tmp_path / f"w{suffix}"
    named = {prefix + name: value for name, value in state.items()}
    if suffix == ".safetensors":
        safetensors.torch.save_file(named, path)
    else:
        torch.save({"state_dict": named, "epoch": 3} if wrapped else named, path)
    built = timm_backbone(NAME, checkpoint=path)
    assert built.provenance.weights == "pretrained"
    load = built.provenance.load
    assert (load.in_file, load.left_out, load.unused) == (len(state), ("fc.bias", "fc.weight"), ())
    assert load.used == len(state) - 2
    reference = timm.create_model(NAME, num_classes=0)
    reference.load_state_dict({k: v for k, v in state.items() if not k.startswith("fc.")})
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(built.eval().features(images), reference.eval()(images))


@pytest.mark.slow
def test_a_missing_weight_is_refused_with_counts(state, tmp_path):
    del state["layer1.0.conv1.weight"]
    path = tmp_path / "w.safetensors"
    safetensors.torch.save_file(state, path)
    with pytest.raises(
        UsageError, match=r"(\d+) of (\d+) weights found; the file lacks layer1.0.conv1.weight"
    ):
        timm_backbone(NAME, checkpoint=path)


class Evil:
    def __reduce__(self):
        return (print, ("executed",))


def test_a_pickle_is_never_executed(tmp_path, capsys):
    for save in (
        lambda p: torch.save({"x": Evil()}, p),
        lambda p: p.write_bytes(pickle.dumps({"x": Evil()})),
    ):
        path = tmp_path / "evil.pth"
        save(path)
        with pytest.raises(UsageError, match=r"not a state dict of named weights|never executed"):
            timm_backbone(NAME, checkpoint=path)
    assert "executed" not in capsys.readouterr().out


def test_a_tensor_is_not_a_state_dict(tmp_path):
    torch.save(torch.ones(3), tmp_path / "t.pth")
    with pytest.raises(UsageError, match="holds a Tensor"):
        timm_backbone(NAME, checkpoint=tmp_path / "t.pth")


def test_random_initialisation_is_seeded_and_leaves_the_global_generator_unchanged():
    before = torch.random.get_rng_state()
    digests = [
        BuiltBackbone(timm_backbone(NAME, pretrained=False, init_seed=s), "x", {}).weights_digest()
        for s in (0, 0, 1)
    ]
    assert digests[0] == digests[1] != digests[2]
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(
    ("name", "family", "mean"),
    [
        ("vit_tiny_patch16_224", "ViT", 0.5),
        ("resnetv2_50x1_bit", "BiT", 0.5),
        ("tf_efficientnet_b0", "EfficientNet", 0.485),
    ],
)
def test_the_input_spec_is_the_checkpoints(name, family, mean):
    built = timm_backbone(name, pretrained=False)
    assert built.provenance.family == family
    assert built.input.size_px == 224
    assert built.input.mean[0] == mean


def test_a_vit_at_another_image_size_is_resized_as_in_the_paper():
    """Bilinear with aligned corners equals scipy's zoom of order 1; the class token is unchanged."""
    from scipy.ndimage import zoom

    vit = timm_backbone("vit_tiny_patch16_224", pretrained=False, size_px=64)
    wide = vit.at_resolution(96)
    assert wide.input.size_px == 96
    old, new = vit.model.pos_embed[0].detach(), wide.model.pos_embed[0].detach()
    assert torch.equal(old[0], new[0])
    wanted = zoom(old[1:].reshape(4, 4, -1).numpy(), (6 / 4, 6 / 4, 1), order=1)
    assert np.abs(new[1:].reshape(6, 6, -1).numpy() - wanted).max() < 1e-5
    with torch.no_grad():
        assert wide.eval().features(torch.zeros(1, 3, 96, 96)).shape == (1, 192)


def test_image_sizes_must_be_multiples_of_the_patch_size():
    """timm itself would ignore the last six rows and columns."""
    with pytest.raises(
        UsageError, match="patches of 14 px, and 90 px is not a multiple of 14; use 84 px or 98 px"
    ):
        timm_backbone("vit_small_patch14_dinov2", pretrained=False, size_px=90)


def test_a_grid_need_not_be_square():
    embedding = torch.arange(1 + 6, dtype=torch.float32).reshape(1, 7, 1)
    found = resize_position_embedding(embedding, (2, 3), (3, 3))
    assert found[0, :, 0].tolist() == [0, 1, 2, 3, 2.5, 3.5, 4.5, 4, 5, 6]


def test_patch_size_can_be_set_for_untrained_models_only():
    with pytest.raises(UsageError, match="pretrained: false"):
        timm_backbone("vit_tiny_patch16_224", patch_px=8)


def test_another_normalisation_is_recorded_as_a_warning():
    half = (0.5, 0.5, 0.5)
    _, plain = BACKBONES.make("timm:resnet10t", {"pretrained": False})
    _, other = BACKBONES.make("timm:resnet10t", {"pretrained": False, "mean": half, "std": half})
    assert plain.input.mean != other.input.mean == other.at_resolution(96).input.mean == half
    assert other.provenance.pixel_warning == ""  # no weights were trained with another normalisation
    trained = TimmBackbone(initialised("resnet10t", None, {}, 0))
    trained.provenance = Provenance("ResNet", "pretrained", "ImageNet-1k", "timm:resnet10t [c3_in1k]")
    assert "the weights were trained with" in trained.normalising(half, half).provenance.pixel_warning
    assert trained.normalising(half, half).input.mean == half


def timms_own(model, size_px, use_test_size=False):
    """Timm's evaluation transform of a model for an image size, up to pixels."""
    config = resolve_data_config({}, model=model, use_test_size=use_test_size)
    built = create_transform(**{**config, "input_size": (3, size_px, size_px)})
    return transforms.Compose(built.transforms[:-2])


# Squash, centre with crop_pct 1, below 1 and above, bilinear, and a test size with a crop of its own.
EVALUATED = [
    "test_vit3.r160_in1k",
    "resnet18.a1_in1k",
    "resnet18.tv_in1k",
    "mobilenetv3_small_050.lamb_in1k",
    "test_convnext.r160_in1k",
]


@pytest.mark.parametrize("name", EVALUATED)
def test_timm_eval_is_timms_transform_of_the_model(name):
    backbone = BuiltBackbone(timm_backbone(name, pretrained=False), name, {})
    rng = np.random.default_rng(3)
    images = [
        rng.integers(0, 256, (h, w, 3), dtype=np.uint8)
        for h, w in ((301, 200), (97, 333), (160, 160), (1, 40))
    ]
    own, test = (
        timm.get_pretrained_cfg(name).to_dict().get(key) for key in ("input_size", "test_input_size")
    )
    for size_px in {own[-1], (test or own)[-1], 128}:
        at = backbone.at_resolution(size_px)
        is_test = test is not None and size_px == test[-1] != own[-1]
        theirs = timms_own(backbone.module.model, size_px, use_test_size=is_test)
        found = apply(images, preset_of("timm_eval", at))
        wanted = [transforms.PILToTensor()(theirs(Image.fromarray(image))) for image in images]
        assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True)), size_px


def test_some_model_has_another_crop_at_its_test_size():
    backbone = BuiltBackbone(timm_backbone("resnet18.a1_in1k", pretrained=False), "resnet18", {})
    shares = {size: backbone.at_resolution(size).evaluation.crop_pct for size in (224, 288, 320)}
    assert shares == {224: 0.95, 288: 1.0, 320: 0.95}


def test_timm_eval_normalises_and_fills_borders_by_the_mean_that_was_asked_for():
    own = timm_backbone("resnet18.a1_in1k", pretrained=False, mean=(0.5, 0.4, 0.3))
    assert BuiltBackbone(own, "resnet18", {}).evaluation.border == (0.5, 0.4, 0.3)
