"""BatchNorm without gains in front of linear heads, as torch.nn.BatchNorm1d(affine=False) (MAE:main_linprobe.py)."""

from __future__ import annotations

import torch
from torch import Tensor

EPS = 1e-6  # MAE:main_linprobe.py
MOMENTUM = 0.1  # torch's default


class BatchNorm:
    """Normalises rows (B, D) by their own mean and variance in training, by running ones in testing."""

    def __init__(self, sample: Tensor) -> None:
        self.mean = torch.zeros_like(sample[0])
        self.variance = torch.ones_like(sample[0])

    def train(self, rows: Tensor, *, keep: bool) -> Tensor:
        """Rows normalised over themselves; `keep` moves the running statistics towards theirs."""
        variance, mean = torch.var_mean(rows, dim=0, correction=0)
        if keep:
            unbiased = variance * (len(rows) / (len(rows) - 1))
            self.mean.lerp_(mean, MOMENTUM)
            self.variance.lerp_(unbiased, MOMENTUM)
        return (rows - mean) / (variance + EPS).sqrt()

    def test(self, rows: Tensor) -> Tensor:
        """Rows normalised by the running statistics."""
        return (rows - self.mean) / (self.variance + EPS).sqrt()
