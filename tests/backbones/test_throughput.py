"""The speed that a dry run measures is that of a job: its memory format, and batches that fit."""

import pytest
import torch

from vitbench.api import InputSpec
from vitbench.backbones.models.wrapper import BuiltBackbone
from vitbench.backbones.throughput import rate


class Picky(torch.nn.Module):
    """Runs out of memory above so many images."""

    input, feature_dim = InputSpec(16, (0.5,) * 3, (0.5,) * 3), 8

    def __init__(self, most):
        super().__init__()
        self.most, self.seen, self.formats = most, [], set()
        self.conv = torch.nn.Conv2d(3, 8, 3)

    def features(self, images):
        if images.device.type == "meta":
            return self.conv(images).mean((2, 3))
        if len(images) > self.most:
            raise torch.OutOfMemoryError("no")
        self.seen.append(len(images))
        for tensor in (images, self.conv.weight):
            self.formats.add(tensor.is_contiguous(memory_format=torch.channels_last))
        return self.conv(images).mean((2, 3))


def test_batches_are_halved_until_they_fit_and_are_channels_last():
    module = Picky(5)
    shape = BuiltBackbone(module.to("meta"), "x", {})
    assert rate(shape, "cpu", "float32", 0.01) > 0
    assert set(module.seen) == {4}
    assert module.formats == {True}
    assert next(shape.parameters()).is_meta


def test_an_image_that_does_not_fit_is_an_error_and_leaves_no_weights_behind():
    module = Picky(0)
    shape = BuiltBackbone(module.to("meta"), "x", {})
    with pytest.raises(torch.OutOfMemoryError):
        rate(shape, "cpu", "float32", 0.01)
    assert next(shape.parameters()).is_meta
