"""Heads on features that are there already, with weights from seeds, as the golden file of heads was made."""

import zlib

import numpy as np
import torch

from tests.making.paths import GOLDEN
from vitbench.core.tokens import Tokens


def seeded(tag, shape, scale=1.0):
    """Numbers of a name's own stream, (shape) float64."""
    return torch.from_numpy(scale * np.random.default_rng(zlib.crc32(tag.encode())).standard_normal(shape))


def golden():
    """What DINOv2's, MAE's and CAPI's code gave in float64 (tests/golden/README.md)."""
    with np.load(GOLDEN / "frozen_heads.npz", allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


class StoredTokens:
    """A backbone whose blocks' tokens are there: an image's first pixel is its number.

    Class tokens (N, L, D) or None, and patch tokens of the last block (N, T, D); the other blocks' are not read.
    """

    def __init__(self, class_tokens, patches):
        self.class_tokens, self.patches = class_tokens, patches

    def last_blocks(self, images, count):
        rows = images[:, 0, 0, 0].long()
        patches = self.patches[rows]
        if self.class_tokens is None:
            return (Tokens(None, patches[:, :0], patches),)
        return tuple(
            Tokens(self.class_tokens[rows, block], patches[:, :0], patches)
            for block in range(self.class_tokens.shape[1] - count, self.class_tokens.shape[1])
        )

    def features(self, images):
        return self.patches[images[:, 0, 0, 0].long()].mean(1)


def numbered(numbers):
    """Images (B, 3, 1, 1) with these numbers."""
    return torch.as_tensor(numbers).float().view(-1, 1, 1, 1).expand(-1, 3, 1, 1)
