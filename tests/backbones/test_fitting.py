"""A bare path to a checkpoint says which architectures it fits."""

import json
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from tests.making.command import vitbench
from tests.making.timm_shapes import shapes_of
from vitbench.backbones import fitting
from vitbench.backbones.fitting import explained, signature
from vitbench.core.errors import UsageError
from vitbench.core.registry import BACKBONES

SHAPES = json.loads(Path(fitting.__file__).with_name("timm_shapes.json").read_text())
SOME = (
    "vit_tiny_patch16_224", "resnet18", "resnetv2_50x1_bit", "efficientnet_b0", "convnext_atto", "mixer_s32_224",
    "mobilenetv3_small_050", "swin_tiny_patch4_window7_224", "beit_base_patch16_224", "vit_small_patch14_dinov2",
)  # fmt: skip


@pytest.mark.parametrize("name", SOME)
def test_signatures_are_those_of_timm(name):
    assert name in SHAPES[signature(shapes_of(name))]


def test_most_architectures_have_a_signature():
    known = {name for names in SHAPES.values() for name in names}
    assert len(known & set(timm.list_models())) > 0.95 * len(timm.list_models(exclude_filters="test_*"))


def saved(folder, name, prefix="", wrap=None, **how):
    weights = timm.create_model(name, pretrained=False, **how).state_dict()
    weights = {prefix + key: value for key, value in weights.items()}
    if wrap:
        torch.save({wrap: weights, "epoch": 3}, folder / "last.pth")
        return folder / "last.pth"
    save_file(weights, folder / "last.safetensors")
    return folder / "last.safetensors"


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("resnet18", {}), ("vit_tiny_patch16_224", {"num_classes": 7, "img_size": 96}),
        ("efficientnet_b0", {"wrap": "state_dict"}), ("vit_tiny_patch16_224", {"prefix": "module.backbone."}),
    ],
)  # fmt: skip
def test_a_checkpoint_fits_its_architecture(tmp_path, name, how):
    path = saved(tmp_path, name, **how)
    assert name in fitting.fitting(path)
    problem = explained(path)
    assert f"its weights fit timm:{fitting.fitting(path)[0]}" in problem.what
    assert problem.next_step == f'--backbone "timm:{fitting.fitting(path)[0]},checkpoint={path}"'


def test_the_command_says_what_to_type(tmp_path):
    path = saved(tmp_path, "resnet18")
    for arguments in (
        ("run", "quickstart", "--backbone", path, "--dry-run"),
        ("check", path),
        ("cost", path),
    ):
        ended = vitbench(*arguments)
        assert ended.returncode == 2
        assert "its weights fit timm:resnet18" in ended.stderr, ended.stderr
        assert f'--backbone "timm:resnet18,checkpoint={path}"' in ended.stderr


def test_other_files_are_said_too(tmp_path):
    (tmp_path / "x.npz").touch()
    (tmp_path / "x.pth").write_bytes(b"no")
    save_file({"a.weight": torch.zeros(2, 3)}, tmp_path / "mine.safetensors")
    assert explained(tmp_path / "x.npz").next_step == f"npz:{tmp_path / 'x.npz'}"
    assert "cannot be read" in explained(tmp_path / "x.pth").what
    assert "fit none of timm's" in explained(tmp_path / "mine.safetensors").what
    with pytest.raises(UsageError, match="unknown backbone"):
        BACKBONES.get(str(tmp_path / "missing.safetensors"))
