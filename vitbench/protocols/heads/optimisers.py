"""The optimisers of stacked heads: momentum SGD and AdamW as torch has them, and LARS as MoCo v3 and MAE have it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vitbench.protocols.heads.recipe import HeadRecipe
from vitbench.protocols.heads.stack import Stack

TRUST = 0.001  # MAE:util/lars.py, trust_coefficient


class Optimiser:
    """Updates stacks in place by their gradients; `moments` are the tensors that it keeps of each, of its shape."""

    def __init__(self, stacks: Sequence[Stack], recipe: HeadRecipe) -> None:
        self.stacks, self.recipe = list(stacks), recipe
        several = 2 if recipe.optimiser == "adamw" else 1
        self.moments = [[torch.zeros_like(s.weight) for _ in range(several)] for s in self.stacks]
        self.steps_done = 0

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor], factor: float) -> None:
        """Update all weights; `factor` multiplies every head's rate."""
        self.steps_done += 1
        update = {"sgd": self._sgd, "lars": self._lars, "adamw": self._adamw}[self.recipe.optimiser]
        for stack, moments, gradient in zip(self.stacks, self.moments, gradients, strict=True):
            update(stack, moments, gradient, stack.along(stack.rates * factor))

    def _sgd(self, stack: Stack, moments: list[Tensor], gradient: Tensor, rate: Tensor) -> None:
        """torch.optim.SGD without dampening: decay is part of the gradient."""
        if stack.is_decayed:
            gradient = gradient + stack.along(stack.decays) * stack.weight
        moments[0].mul_(self.recipe.momentum).add_(gradient)
        stack.weight.addcmul_(moments[0], rate, value=-1)

    def _lars(self, stack: Stack, moments: list[Tensor], gradient: Tensor, rate: Tensor) -> None:
        """MAE:util/lars.py: a head's matrix is scaled to its own norm; vectors are neither scaled nor decayed."""
        if stack.weight.ndim > 2:  # a matrix of each head
            gradient = gradient + stack.along(stack.decays) * stack.weight
            own, change = stack.weight.flatten(1).norm(dim=1), gradient.flatten(1).norm(dim=1)
            scale = torch.where((own > 0) & (change > 0), TRUST * own / change, 1.0)
            gradient = gradient * stack.along(scale)
        moments[0].mul_(self.recipe.momentum).add_(gradient)
        stack.weight.addcmul_(moments[0], rate, value=-1)

    def _adamw(self, stack: Stack, moments: list[Tensor], gradient: Tensor, rate: Tensor) -> None:
        """torch.optim.AdamW: decay is decoupled."""
        first, second = moments
        beta1, beta2 = self.recipe.momentum, self.recipe.beta2
        stack.weight.mul_(1 - rate * stack.along(stack.decays))
        first.lerp_(gradient, 1 - beta1)
        second.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        root = (second.sqrt() / (1 - beta2**self.steps_done) ** 0.5).add_(self.recipe.eps)
        stack.weight.sub_(rate / (1 - beta1**self.steps_done) * (first / root))
