"""Few-shot linear evaluation in closed form: ridge regression from standardised features to {-1, 1} targets.

The ViT paper's linear few-shot protocol as big_vision computes it (facts/protocols.md 3.4). With X (N, D) standardised by the
training examples' own mean and population std, Y (N, C) in {-1, 1} and a constant bias feature B = 100,

    W = (X'X + l2 I)^-1 X'Y = X' (XX' + l2 I)^-1 Y,    b = B^2 sum(Y) / (N B^2 + l2)

The bias separates because X is centred. One eigendecomposition, of the smaller of X'X and XX', serves every l2; it is done in
float64, where float32 moves accuracies by up to 0.38 points at small l2 (facts/performance.md A).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from vitbench.api import Adaptation, Adapted, Protocol
from vitbench.lazy import lazy_module
from vitbench.records import PreprocessName, Trial, shots_of
from vitbench.registry import register_protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = lazy_module("torch")

BIAS = 100.0  # BV evaluators/fewshot_lsr.py:30
STD_FLOOR = 1e-5  # fewshot_lsr.py:42-44
FIXED_L2 = 2.0**10  # BV configs/common_fewshot.py:25
# The grid of the implementation contemporary with the paper: 2^-10 .. 2^19 (facts/protocols.md 3.4).
GRID = tuple(2.0**power for power in range(-10, 20))


@dataclass(frozen=True)
class RidgeSolution:
    """The decomposition for one training set; `weights` and `scores` take any penalty.

    Shapes: mean, std (D,); basis (D, R) and target (R, C) with R = min(N, D); eigenvalues (R,); class_sums (C,).
    """

    mean: Tensor
    std: Tensor
    basis: Tensor
    eigenvalues: Tensor
    target: Tensor
    class_sums: Tensor
    n_train: int

    def weights(self, l2: float) -> tuple[Tensor, Tensor]:
        """Weights (D, C) on standardised features and bias (C,), float64."""
        shrunk = self.target / (self.eigenvalues + l2)[:, None]
        bias = BIAS**2 * self.class_sums / (self.n_train * BIAS**2 + l2)
        return self.basis @ shrunk, bias

    def scores(self, x: Tensor, l2: float) -> Tensor:
        """Class scores (M, C) float64 of features (M, D)."""
        weights, bias = self.weights(l2)
        folded = weights / self.std[:, None]
        return x.double() @ folded + (bias - self.mean @ folded)


def fit(x: Tensor, y: Tensor, num_classes: int, l2: float | Sequence[float]) -> RidgeSolution:
    """Decompose features x (N, D) with labels y (N,) once, for every penalty in `l2`.

    Raises:
        ValueError: a penalty is not positive; without one the dual form has no unique solution.
    """
    if any(value <= 0 for value in ([l2] if isinstance(l2, int | float) else l2)):
        raise ValueError(f"l2 must be positive, not {l2}")
    x = x.double()
    mean = x.mean(0)
    std = x.std(0, correction=0) + STD_FLOOR
    centred = (x - mean) / std
    targets = 2.0 * torch.nn.functional.one_hot(y, num_classes).double() - 1.0
    if len(x) > x.shape[1]:
        eigenvalues, basis = torch.linalg.eigh(centred.T @ centred)
        target = basis.T @ (centred.T @ targets)
    else:
        eigenvalues, vectors = torch.linalg.eigh(centred @ centred.T)
        basis, target = centred.T @ vectors, vectors.T @ targets
    floored = eigenvalues.clamp(min=0.0)  # rounding leaves zeros slightly negative
    return RidgeSolution(mean, std, basis, floored, target, targets.sum(0), len(x))


@register_protocol("ridge_probe", version=1, source="arXiv 2010.11929 sec. 4.1; big_vision fewshot_lsr")
@dataclass(frozen=True)
class RidgeProbe(Protocol):
    """Closed-form linear probe on frozen features (the ViT paper's few-shot evaluation).

    `l2` is a fixed penalty, or `val`: chosen on validation out of 2^-10..2^19, ties to the larger penalty, then refit on train
    and validation. The default is big_vision's fixed 2^10 for N-shot budgets, and `val` where there is validation data.
    """

    default_preprocess: ClassVar[PreprocessName] = "fewshot"

    l2: float | Literal["val", "default"] = "default"

    def depends_on_seed(self, budget: str) -> bool:
        """Only the draw of examples is random."""
        return shots_of(budget) is not None

    def adapt(self, data: Adaptation) -> Adapted:
        """Fit on train, or choose the penalty on val and refit on both."""
        x, y = data.features(data.train), torch.as_tensor(data.train.labels, device=data.device)
        choose = self.l2 == "val" or (self.l2 == "default" and len(data.val) > 0)
        if not choose or len(data.val) == 0:
            l2 = FIXED_L2 if isinstance(self.l2, str) else self.l2
            solution = fit(x, y, data.num_classes, l2)
            trial = Trial(options={"l2": l2}, split="train", metric="top1", value=None, chosen=True)
            return Adapted(data.backbone, lambda z: solution.scores(z, l2), False, (trial,))
        x_val = data.features(data.val)
        y_val = torch.as_tensor(data.val.labels, device=data.device)
        first = fit(x, y, data.num_classes, GRID)
        hits = [(first.scores(x_val, l2).argmax(1) == y_val).double().mean().item() for l2 in GRID]
        best = max(range(len(GRID)), key=lambda i: (hits[i], GRID[i]))
        final = fit(torch.cat([x, x_val]), torch.cat([y, y_val]), data.num_classes, GRID[best])
        trials = tuple(
            Trial(options={"l2": l2}, split="val", metric="top1", value=hit, chosen=i == best)
            for i, (l2, hit) in enumerate(zip(GRID, hits, strict=True))
        )
        return Adapted(data.backbone, lambda z: final.scores(z, GRID[best]), False, trials)
