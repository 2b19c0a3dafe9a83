"""Networks that a library builds and loads itself: the same weights, without initial values that nobody uses."""

import math

import open_clip
import pytest
import timm
import torch
import torchvision
import transformers
from torch.utils._python_dispatch import TorchDispatchMode

from vitbench.backbones.build import build
from vitbench.backbones.models import unfilled
from vitbench.backbones.models.timm_create import create
from vitbench.backbones.models.unfilled import loaded, on_meta
from vitbench.core.seeding import seeded

SMALL = 100_000  # values of embeddings and tokens, which are made from zeros
TIMM = (
    "vit_tiny_patch16_224", "resnetv2_18", "efficientnet_b0", "swin_tiny_patch4_window7_224", "eva02_tiny_patch14_224",
    "mixer_s32_224", "convnext_atto",
)  # fmt: skip


class Draws(TorchDispatchMode):
    """Counts the values that are drawn in place: those on the meta device are none, unless `on_meta`."""

    def __init__(self, on_meta=False):
        super().__init__()
        self.count, self.on_meta = 0, on_meta

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if torch.Tag.nondeterministic_seeded in func.tags and isinstance(args[0], torch.Tensor):
            self.count += args[0].numel() if self.on_meta or not args[0].is_meta else 0
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", TIMM)
def test_on_meta_a_network_has_the_shapes_of_timms_and_draws_nothing(name):
    with torch.device("meta"):
        plain = timm.create_model(name)
    with Draws(on_meta=True) as draws, on_meta():
        found = timm.create_model(name)
    assert draws.count == 0

    def facts(network):
        tensors = (*network.named_parameters(), *network.named_buffers())
        return [(name, each.shape, each.dtype, each.stride(), each.requires_grad) for name, each in tensors]

    assert facts(found) == facts(plain)
    assert all(tensor.is_meta for tensor in found.parameters())


def test_on_meta_tensors_that_have_values_are_computed_as_ever():
    with on_meta():
        real = torch.ones(3, device="cpu").mul_(2).add_(1)
        assert torch.nn.init.normal_(real.clone()).unique().numel() == 3
        with pytest.raises(RuntimeError, match="meta"):
            torch.ones(3).mul_(2).sum().item()  # none of them: whoever asks for values is told
    assert real.tolist() == [3.0] * 3
    assert torch.ones(2).add_(1).tolist() == [2.0] * 2


def equal(one, other):
    """Whether two networks have the same state, and buffers outside of it."""
    tensors = [dict((*each.named_parameters(), *each.named_buffers())) for each in (one, other)]
    same = [torch.equal(tensor, tensors[1][name]) for name, tensor in tensors[0].items()]
    return all(same) and tensors[0].keys() == tensors[1].keys()


@pytest.mark.parametrize("name", TIMM)
def test_what_timm_loads_itself_is_what_it_was_without_the_draws(name, tmp_path):
    torch.save(timm.create_model(name).state_dict(), tmp_path / "w.pth")
    how = {"pretrained": True, "pretrained_cfg_overlay": {"file": str(tmp_path / "w.pth")}}
    plain = create(name, **how)
    with Draws() as draws:
        found = loaded(lambda: create(name, **how))
    assert draws.count < SMALL
    assert equal(plain, found)
    assert [weight.requires_grad for weight in plain.parameters()] == [
        weight.requires_grad for weight in found.parameters()
    ]


def test_torchvisions_weights_and_checkpoints_are_loaded_without_draws(tmp_path, monkeypatch):
    state = torchvision.models.resnet18().state_dict()
    torch.save(state, tmp_path / "w.pth")
    monkeypatch.setattr(torchvision.models.ResNet18_Weights, "get_state_dict", lambda *_a, **_o: dict(state))
    with Draws() as draws:
        own = build("torchvision:resnet18", {})
        file = build("torchvision:resnet18", {"checkpoint": str(tmp_path / "w.pth")})
    assert draws.count == 0
    assert own.weights_digest() == file.weights_digest()
    for key, value in own.module.model.state_dict().items():
        assert torch.equal(value, state[key])
    for backbone in (own, file):
        assert torch.equal(backbone.module.classifier().module.weight, state["fc.weight"])


@pytest.mark.slow
def test_open_clips_weights_are_loaded_without_draws(tmp_path):
    state = open_clip.create_model("ViT-B-32").state_dict()
    torch.save(state, tmp_path / "w.pt")
    with Draws() as draws:
        found = build("open_clip:ViT-B-32", {"weights": str(tmp_path / "w.pt")}).module.model.state_dict()
    assert draws.count < SMALL
    assert all(torch.equal(value, state[f"visual.{key}"]) for key, value in found.items())


def test_transformers_draws_no_layers_by_itself(tmp_path):
    size = {"hidden_size": 96, "intermediate_size": 384, "num_hidden_layers": 2, "num_attention_heads": 3}
    transformers.ViTModel(transformers.ViTConfig(image_size=32, patch_size=8, **size)).save_pretrained(
        tmp_path
    )
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    with Draws() as draws:
        found = build(f"hf:{tmp_path}", {})
    assert draws.count < found.trainable().params / 10


class Half(torch.nn.Module):
    """Two layers, of which a checkpoint has one; the second is scaled by what was drawn for it."""

    def __init__(self, *, computes: bool = False):
        super().__init__()
        self.first, self.second = torch.nn.Linear(3, 4), torch.nn.Linear(4, 5)
        self.scale = math.copysign(1.0, self.second.weight.sum().item()) if computes else 1.0
        self.load_state_dict({"first.weight": torch.ones(4, 3), "first.bias": torch.zeros(4)}, strict=False)


@pytest.mark.parametrize("computes", [False, True])
def test_where_initial_values_stay_they_are_those_of_the_seed(computes):
    with seeded(3, "initial weights"):
        plain = Half(computes=computes)
    with seeded(3, "initial weights"):
        found = loaded(lambda: Half(computes=computes))
    assert equal(plain, found)
    assert found.scale == plain.scale


def test_a_library_that_changes_what_it_has_loaded_is_followed():
    def make():
        layer = torch.nn.Linear(2, 1)
        layer.load_state_dict({"weight": torch.ones(1, 2), "bias": torch.zeros(1)})
        with torch.no_grad():
            layer.weight.mul_(3)
        return layer

    assert loaded(make).weight.tolist() == [[3.0, 3.0]]


def test_what_stops_a_download_is_said_once():
    asked = []

    def make():
        asked.append(1)
        raise ConnectionError("the hub does not answer")

    with pytest.raises(ConnectionError, match="does not answer"):
        loaded(make)
    assert asked == [1]


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "resnetv2_18"])
def test_untrained_networks_are_what_timm_draws_for_the_size(name, monkeypatch):
    made = []
    create_plain = timm.create_model

    def counted(*arguments, **options):
        network = create_plain(*arguments, **options)
        made.append(next(network.parameters()).device.type)
        return network

    monkeypatch.setattr(timm, "create_model", counted)
    found = build(f"timm:{name}", {"pretrained": False, "size_px": 96, "init_seed": 2}).module.model
    assert made.count("cpu") == 1
    sized = {} if name == "resnetv2_18" else {"img_size": 96}
    with seeded(2, "initial weights"):
        plain = create_plain(name, num_classes=0, **sized)
    assert equal(plain, found)


def test_only_parameters_that_are_drawn_are_put_on_the_meta_device():
    with unfilled._Unfilled():
        layer = torch.nn.Linear(3, 2)
        buffer = torch.empty(2).uniform_()
    assert layer.weight.is_meta
    assert layer.bias.is_meta
    assert not buffer.is_meta
    assert not torch.nn.Linear(3, 2).weight.is_meta
