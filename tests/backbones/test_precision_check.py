"""How far features in bfloat16 are from those in float32, as the check states it."""

import re

import pytest
import torch
from torch import nn

from tests.making.command import vitbench
from vitbench.api import InputSpec, Provenance
from vitbench.backbones.models.wrapper import BuiltBackbone
from vitbench.backbones.precision_check import precision_findings

STATED = re.compile(r"features are (\S+) of their norm .* (\S+) of the distance")


class Scaled(nn.Module):
    """Means of colours, and in bfloat16 something else of them."""

    input, feature_dim = InputSpec(8, (0.5,) * 3, (0.5,) * 3), 3
    provenance = Provenance(family="other", weights="none", pretrain_data="none")

    def __init__(self, in_bfloat16):
        super().__init__()
        self.in_bfloat16 = in_bfloat16

    def features(self, images):
        means = images.mean((2, 3)) + 10
        return self.in_bfloat16(means) if torch.is_autocast_enabled("cpu") else means


def findings(in_bfloat16, dtype="bfloat16"):
    backbone = BuiltBackbone(Scaled(in_bfloat16), "scaled", {})
    return precision_findings(backbone, "cpu", dtype)


def test_the_error_is_relative_to_features_and_to_their_distance():
    (found,) = findings(lambda means: 1.01 * means)
    of_norm, of_distance = map(float, STATED.search(found.text).groups())
    assert found.ok
    assert of_norm == pytest.approx(0.01)
    assert of_distance > 2 * of_norm  # features far from the origin are close to each other


def test_features_that_are_lost_in_bfloat16_are_a_fault():
    (found,) = findings(lambda means: means / 0)
    assert found.ok is False


def test_float32_on_the_cpu_has_nothing_to_state():
    assert findings(lambda means: means, "float32") == []


def test_the_command_states_it_for_a_network():
    plain = vitbench("check", "mini-vit-1").stdout.splitlines()
    with_error = vitbench("check", "mini-vit-1", "--dtype", "bfloat16").stdout.splitlines()
    assert with_error[:-1] == plain
    of_norm, _ = map(float, STATED.search(with_error[-1]).groups())
    assert 2**-9 < of_norm < 0.05  # products are rounded to 8 bits
