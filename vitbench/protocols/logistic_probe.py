"""Linear classification of frozen features by multinomial logistic regression, the L2 penalty chosen on validation.

CLIP's and DINOv2's evaluation (arXiv 2103.00020 App. A.3; facts/protocols.md section 5): features as they come, penalty
||W||^2 / (2 C) with a free bias, C out of 45 values from 1e-6 to 1e5, then refit on train and validation together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from vitbench.api import Adaptation, Adapted, Protocol
from vitbench.core.job import PreprocessName, shots_of
from vitbench.core.lazy_import import lazy_module
from vitbench.core.record import Trial
from vitbench.core.registry import register_protocol
from vitbench.protocols import newton
from vitbench.protocols.selection import fixed, select

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = lazy_module("torch")

LOWEST, HIGHEST, VALUES = -6.0, 5.0, 45  # log10 of C; DN dinov2/eval/log_regression.py:33-34
HELD_OUT = 0.1  # of train, where there is no validation data; log_regression.py:294-338
TOLERANCE = 1e-6  # relative gap of the objective
ABSENT = -1e30  # its optimum is minus infinity, but scores must be finite, in float32 too
WITHOUT_CHOICE = 1.0  # C where too little is labelled to choose: scikit-learn's default


@dataclass(frozen=True)
class LogisticSolution:
    """Solutions for S penalties: weights (S, D, C) and biases (S, C) float64; certificates per penalty (S,).

    `relative_gap` is how far the objective may be above its minimum, as a share of it: half the squared Newton decrement, or
    `duality_gap`, which needs no assumption, where that is smaller. A class without examples has bias `ABSENT`.
    """

    weights: Tensor
    bias: Tensor
    objective: Tensor
    relative_gap: Tensor
    duality_gap: Tensor
    gradient_norm: Tensor

    def scores(self, x: Tensor, which: int = 0) -> Tensor:
        """Log-odds (M, C) of features (M, D) under one of the penalties."""
        return x.double() @ self.weights[which] + self.bias[which]


def fit(
    x: Tensor, y: Tensor, num_classes: int, l2: float | Sequence[float], tolerance: float = TOLERANCE
) -> LogisticSolution:
    """Minimise the summed cross-entropy plus l2/2 ||W||^2 for every l2, on features x (N, D) with labels y (N,).

    Two classes share one weight vector, as in scikit-learn and cuML; l2 is 1/C there.

    Raises:
        ValueError: a penalty is not positive: separable data have no finite solution without one.
    """
    penalties = [float(value) for value in ([l2] if isinstance(l2, int | float) else l2)]
    if any(not value > 0 for value in penalties):
        raise ValueError(f"l2 must be positive, not {l2}")
    present, labels = y.unique(return_inverse=True)
    # One vector w for two classes is w/2 and -w/2 here: half its squared norm, so twice the penalty.
    doubled = 2.0 if len(present) == 2 else 1.0
    data = newton.rotated(x, labels, len(present))
    found = newton.solve(data, [doubled * value for value in penalties], tolerance)
    weights = x.new_zeros(len(penalties), x.shape[1], num_classes, dtype=torch.float64)
    bias = torch.full_like(weights[:, 0], ABSENT)
    weights[:, :, present] = (found.w @ data.basis.T).transpose(1, 2)
    bias[:, present] = found.b - data.mean @ weights[:, :, present]
    return LogisticSolution(
        weights, bias, found.objective, found.relative_gap, found.duality_gap, found.gradient_norm
    )


@register_protocol(
    "logistic_probe", version=1, source="arXiv 2103.00020; DINOv2, dinov2/eval/log_regression.py"
)
@dataclass(frozen=True)
class LogisticProbe(Protocol):
    """Multinomial logistic regression on frozen features (CLIP's and DINOv2's linear evaluation).

    `c` is the inverse penalty, or `val`: chosen on validation out of `values` values from 1e-6 to 1e5, ties to the smaller C,
    then refit on train and validation. Where there is no validation data a tenth of train is held out instead.
    """

    default_preprocess: ClassVar[PreprocessName] = "centre_crop"

    c: Annotated[float, Field(gt=0)] | Literal["val"] = "val"
    values: Annotated[int, Field(ge=2)] = VALUES

    def depends_on_seed(self, budget: str) -> bool:
        """Only the draw of examples is random: what is held out is one fixed permutation's, as in DINOv2."""
        return shots_of(budget) is not None

    def adapt(self, data: Adaptation) -> Adapted:
        """Choose C, refit on all that is labelled, and say how well every solution is certified."""
        parts = [split for split in (data.train, data.val) if len(split)]
        x = torch.cat([data.features(split) for split in parts])
        y = torch.as_tensor(np.concatenate([split.labels for split in parts]), device=data.device)
        c, trials = self._select(data, x, y)
        final = fit(x, y, data.num_classes, 1 / c)
        certificate = _certificate(final, 0)
        if certificate["relative_gap"] > TOLERANCE:
            data.note(f"not converged at C = {c:g}: relative gap {certificate['relative_gap']:.0e}")
        if self.c != "val" or len(trials) == 1:
            trials = (trials[0].model_copy(update={"certificate": certificate}),)
        return Adapted(data.backbone, final.scores, False, trials)

    def _select(self, data: Adaptation, x: Tensor, y: Tensor) -> tuple[float, tuple[Trial, ...]]:
        """The best C, and every C with its validation score; x and y hold train and then validation."""
        seen, judged = self._halves(data, y)
        if self.c != "val" or judged is None:
            c = WITHOUT_CHOICE if self.c == "val" else self.c
            return c, (fixed("c", c),)
        grid = np.logspace(LOWEST, HIGHEST, self.values).tolist()
        solution = fit(x[seen], y[seen], data.num_classes, [1 / c for c in grid])
        hits = [
            (solution.scores(x[judged], i).argmax(1) == y[judged]).double().mean().item()
            for i in range(len(grid))
        ]
        certificates = [_certificate(solution, i) for i in range(len(grid))]
        facts = [
            {"certificate": c, "note": "" if c["relative_gap"] <= TOLERANCE else "not converged"}
            for c in certificates
        ]
        return select("c", grid, hits, ties="smaller", facts=facts)

    def _halves(self, data: Adaptation, y: Tensor) -> tuple[Tensor, Tensor | None]:
        """Positions to learn from, and those to choose on: validation, or else a tenth of train if it has ten of a class."""
        every = torch.arange(len(y), device=y.device)
        if len(data.val):
            return every[: len(data.train)], every[len(data.train) :]
        held = int(len(y) * HELD_OUT)
        if self.c != "val" or int(torch.bincount(y).max()) < 1 / HELD_OUT:
            if self.c == "val":
                data.note(f"too few labels to choose C on: {WITHOUT_CHOICE:g}")
            return every, None
        data.note("C was chosen on a tenth of train, which has no validation data")
        order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0)).to(y.device)
        return order[held:], order[:held]


def _certificate(solution: LogisticSolution, which: int) -> dict[str, float]:
    names = ("objective", "relative_gap", "duality_gap", "gradient_norm")
    return {name: float(getattr(solution, name)[which]) for name in names}
