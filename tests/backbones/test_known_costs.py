"""The shipped costs of the catalog's networks are what counting gives."""

import pytest
from torch.nn.modules.conv import _ConvNd

from vitbench.backbones.build import build
from vitbench.backbones.catalog import catalog
from vitbench.backbones.known_costs import known_cost
from vitbench.backbones.models.unfilled import on_meta
from vitbench.compute.flops import forward_flops

COUNTED_HERE = ("augreg-ti16-i21k", "bit-m-r50x1", "effnet-b0-ns", "augreg-r-ti16-i21k", "dinov2-s14")


def test_every_entry_of_the_catalog_has_its_costs():
    for entry in (each for each in catalog() if each.spec.startswith("timm:")):
        cost = known_cost(entry.spec, {"pretrained": True, "checkpoint": None, "pooling": "own"})
        assert cost is not None, entry.alias
        assert {cost.size_px, 224, 384} <= set(cost.sizes)
        for counts in cost.sizes.values():
            assert 0 <= counts.attention_flops < counts.flops
            assert 0 < counts.forward_bytes < counts.step_bytes
            assert counts.activation_bytes > 0


@pytest.mark.parametrize("alias", COUNTED_HERE)
def test_costs_are_counted(alias):
    entry = next(each for each in catalog() if each.alias == alias)
    cost = known_cost(entry.spec, {})
    shape = build(entry.spec, {"pretrained": False}, meta=True)
    assert (cost.params, cost.feature_dim, cost.size_px) == (
        shape.trainable().params, shape.feature_dim, shape.input.size_px
    )  # fmt: skip
    assert cost.convolutions == sum(isinstance(part, _ConvNd) for part in shape.trainable().modules())
    for size_px, counts in cost.sizes.items():
        with on_meta():
            sized = shape.at_least(size_px)
        assert forward_flops(sized, sized.input.size_px) == counts.flops, size_px
        assert (size_px in cost.rounded) == (sized.input.size_px != size_px)


def test_networks_with_other_options_are_counted_anew():
    spec = "timm:vit_base_patch16_224.orig_in21k"
    assert known_cost(spec, {"checkpoint": "my.safetensors"}) is not None
    assert known_cost(spec, {"pooling": "avg"}) is None
    assert known_cost(spec, {"patch_px": 32}) is None
    assert known_cost("timm:vit_base_patch16_224", {}) is None
