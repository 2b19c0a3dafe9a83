"""Weights of timm's hub: the activation that they were trained with, and those that lie at plain addresses."""

import pytest
import timm
import torch
from timm.layers import GELUTanh

from tests.making.npz import golden, images, saved, weights
from vitbench.backbones.models import timm_weights
from vitbench.backbones.models.timm import TimmBackbone
from vitbench.backbones.models.timm_activation import trained_activation
from vitbench.backbones.models.timm_create import TimmModel, create
from vitbench.backbones.models.unfilled import on_meta
from vitbench.backbones.timm import timm_backbone
from vitbench.core.errors import UsageError

FLAX = (
    "vit_tiny_patch16_224.augreg_in21k", "vit_small_r26_s32_224.augreg_in21k_ft_in1k", "vit_base_patch32_224.sam_in1k",
    "flexivit_small.300ep_in1k", "mixer_b16_224.goog_in21k", "vit_base_patch16_siglip_224.v2_webli",
)  # fmt: skip
OTHERS = (
    "vit_base_patch16_224", "vit_base_patch16_224.augreg2_in21k_ft_in1k", "vit_base_patch16_224.mae", "resnet10t",
    "vit_base_patch16_clip_224.laion2b", "convnext_base.clip_laion2b_augreg", "vit_base_patch14_reg1_tipsv2.webli",
)  # fmt: skip
SHAPE = {"img_size": 64, "patch_size": 16, "embed_dim": 96, "depth": 2, "num_heads": 3}


def golden_backbone(tmp_path, options):
    """A timm ViT of the shape of a golden of vision_transformer, with its weights."""
    wanted = golden("vit_a")
    depth = len({name.split("/")[1] for name in weights(wanted["spec"], "a") if "encoderblock_" in name})
    extra = {**SHAPE, "depth": depth, **options}
    model = create("vit_tiny_patch16_224", pretrained=False, **extra).eval()
    model.load_pretrained(str(saved(weights(wanted["spec"], "a"), tmp_path)))
    extra.pop("img_size")
    provenance = timm_weights.initialised("vit_tiny_patch16_224", None, {}, 0).provenance
    built = TimmBackbone(TimmModel(model, "vit_tiny_patch16_224.augreg_in21k", provenance, extra))
    return built.normalising((0.5,) * 3, (0.5,) * 3)


@torch.no_grad()
def test_flax_weights_run_with_the_gelu_that_they_were_trained_with(tmp_path):
    """timm's network of the same weights differs; the trained activation equals vision_transformer's own features."""
    own, timms = (
        golden_backbone(tmp_path, options)
        for options in (trained_activation("vit_tiny_patch16_224.augreg_in21k"), {})
    )
    wanted = {
        64: torch.from_numpy(golden("vit_a")["features"]),
        96: torch.from_numpy(golden("vit_a")["features_hi"]),
    }
    for size_px, seed in ((64, 7), (96, 8)):
        batch = images(seed, size_px)
        error, erf_error = (
            float(
                (backbone.at_resolution(size_px).features(batch) - wanted[size_px]).abs().max()
                / wanted[size_px].abs().max()
            )
            for backbone in (own, timms)
        )
        assert error < 1e-5
        assert erf_error > 1e-4


def test_every_name_with_a_trained_activation_builds_it():
    """One of each kind; timm's own training and other people's weights keep timm's network."""
    for name in FLAX:
        with on_meta():
            model = create(name, pretrained=False, **trained_activation(name))
        kinds = {type(module) for module in model.modules()}
        assert GELUTanh in kinds
        assert torch.nn.GELU not in kinds
    for name in OTHERS:
        assert trained_activation(name) == {}


def test_untrained_networks_and_checkpoints_keep_timms_network(tmp_path):
    """Only weights of timm's hub are known to be Google's."""
    name = "vit_tiny_patch16_224.augreg_in21k"
    assert {type(module) for module in timm_backbone(name, pretrained=False).modules()} & {torch.nn.GELU}


@pytest.fixture
def downloaded(tmp_path, monkeypatch):
    """A cache of torch's with seeded weights of a model that timm has at a plain address, and no network."""
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(timm_weights, "hub_trouble", lambda: "no network")
    torch.manual_seed(3)
    model = timm.create_model("legacy_seresnet18", pretrained=False)
    file = folder / "seresnet18-4bb0ce65.pth"
    torch.save(model.state_dict(), file)
    return model.eval(), file


@torch.no_grad()
def test_weights_at_a_plain_address_have_a_load_report_too(downloaded):
    model, file = downloaded
    built = TimmBackbone(timm_weights.from_hub("legacy_seresnet18", {})).eval()
    report = built.provenance.load
    assert report.used == len(built.model.state_dict())
    assert report.in_file == len(model.state_dict())
    assert report.left_out == ("last_linear.bias", "last_linear.weight")
    assert built.provenance.source == f"timm:legacy_seresnet18.in1k@{file.name}"
    batch = images(1, 64)
    assert torch.equal(
        built.features(batch), model.forward_head(model.forward_features(batch), pre_logits=True)
    )


def test_weights_that_nobody_can_read_afterwards_are_refused(downloaded, monkeypatch):
    """No report, no score."""
    model, file = downloaded
    monkeypatch.setattr(timm_weights, "create", lambda *_, **__: model)
    file.unlink()
    with pytest.raises(UsageError, match="nobody could say what was loaded"):
        timm_weights.from_hub("legacy_seresnet18", {})


def test_a_checkpoint_of_an_architecture_with_two_epsilons_has_a_note(tmp_path):
    """The features differ by a sixth, and nothing in the weights tells which is right."""
    torch.manual_seed(0)
    model = timm.create_model("tf_mobilenetv3_small_075", pretrained=False, num_classes=0)
    torch.save(model.state_dict(), tmp_path / "w.pth")
    for name, own in (("tf_mobilenetv3_small_075", "1e-3"), ("mobilenetv3_small_075", "1e-5")):
        (note,) = timm_backbone(name, checkpoint=tmp_path / "w.pth").provenance.notes
        assert own in note.split(";")[0]
        eps = {
            module.eps
            for module in create(name, pretrained=False).modules()
            if isinstance(module, torch.nn.BatchNorm2d)
        }
        assert eps == {float(own)}
    torch.save(timm.create_model("resnet10t", num_classes=0).state_dict(), tmp_path / "r.pth")
    assert timm_backbone("resnet10t", checkpoint=tmp_path / "r.pth").provenance.notes == ()
