import timm

from vitbench.backbones.models.miniature_nets import ARCHITECTURES
from vitbench.backbones.timm_names import not_timm, timm_names


def test_every_name_that_timm_has_is_known():
    names = set(timm_names())
    assert set(timm.list_models()) - set(ARCHITECTURES) <= names  # without those that are registered here
    missing = [name for name in timm.list_models(pretrained=True) if not_timm(name) is not None]
    assert missing == []


def test_old_names_and_hub_names_pass_and_others_do_not():
    assert not_timm("vit_base_patch16_224_in21k") is None
    assert not_timm("hf-hub:me/mine") is None
    assert not_timm("vit_base_patch16_225")
    assert not_timm("vit_base_patch16_224.augreg_in21")
