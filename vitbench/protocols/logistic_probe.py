"""The logistic-probe protocol: multinomial logistic regression on frozen features, with L2 regularisation chosen on validation.

This is DINOv2's evaluation (DN:dinov2/eval/log_regression.py; docs/protocols.md#logistic-probe): features unscaled, penalty
||W||^2 / (2 C) with an unpenalised bias, C from 45 values between 1e-6 and 1e5, then refit on train and validation together.
CLIP's differs in its grid, features and metric.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from vitbench.api import Adaptation, Adapted, Protocol
from vitbench.core.job import Job, PreprocessName, shots_of
from vitbench.core.lazy_import import lazy_module
from vitbench.core.record import ScoreKind, Trial
from vitbench.core.registry import register_protocol
from vitbench.protocols import newton
from vitbench.protocols.made_up import CLASSES, made_up
from vitbench.protocols.principal_axes import Rows, to_principal_axes
from vitbench.protocols.selection import fixed, select

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = lazy_module("torch")

LOWEST, HIGHEST, VALUES = -6.0, 5.0, 45  # log10 of C; DN:dinov2/eval/log_regression.py:33-34
HELD_OUT = 0.1  # of train, if there is no validation data; DN:dinov2/eval/log_regression.py:294-338
TOLERANCE = 1e-6  # relative optimality gap of the objective
ABSENT = -1e30  # bias of a class without examples: the optimum is minus infinity, but scores must be finite, in float32 too
ROWS_SCORED = 4096  # at a time
DEFAULT_C = 1.0  # for too few labels to choose C: scikit-learn's default


@dataclass(frozen=True)
class LogisticSolution:
    """Solutions for S values of l2: weights (S, D, C) and biases (S, C) float64; certificates (S,).

    `relative_gap` bounds the optimality gap, relative to the objective: half the squared Newton decrement or, if smaller,
    `duality_gap`, which needs no assumption. A class without examples has bias `ABSENT`.
    """

    weights: Tensor
    bias: Tensor
    objective: Tensor
    relative_gap: Tensor
    duality_gap: Tensor
    gradient_norm: Tensor

    def scores(self, x: Tensor, which: int = 0) -> Tensor:
        """Return logits (M, C) of features (M, D) under one of the solutions."""
        return x.double() @ self.weights[which] + self.bias[which]


def fit(
    x: Tensor | Rows, y: Tensor, num_classes: int, l2: float | Sequence[float], tolerance: float = TOLERANCE
) -> LogisticSolution:
    """Minimise the summed cross-entropy plus l2/2 ||W||^2 for every l2, on features x (N, D) with labels y (N,).

    l2 is 1/C in scikit-learn and cuML. As there, two classes share one weight vector. Solutions are in the order of `l2`.

    Raises:
        ValueError: an l2 is not positive; separable data would have no finite solution.
    """
    penalties = [float(value) for value in ([l2] if isinstance(l2, int | float) else l2)]
    if any(not value > 0 for value in penalties):
        raise ValueError(f"l2 must be positive, not {l2}")
    present, labels = y.unique(return_inverse=True)
    # One vector w for two classes is w/2 and -w/2 here, with half its squared norm: double the penalty.
    doubled = 2.0 if len(present) == 2 else 1.0
    rows = x if isinstance(x, Rows) else Rows((x,))
    data = to_principal_axes(rows, labels, len(present))
    found = newton.solve(data, [doubled * value for value in penalties], tolerance)
    weights = data.mean.new_zeros(len(penalties), rows.width, num_classes)
    bias = torch.full_like(weights[:, 0], ABSENT)
    weights[:, :, present] = (found.w @ data.basis.T).transpose(1, 2)
    bias[:, present] = found.b - data.mean @ weights[:, :, present]
    return LogisticSolution(
        weights, bias, found.objective, found.relative_gap, found.duality_gap, found.gradient_norm
    )


@register_protocol("logistic_probe", version=3, source="DINOv2, DN:dinov2/eval/log_regression.py")
@dataclass(frozen=True)
class LogisticProbe(Protocol):
    """Multinomial logistic regression on frozen features (DINOv2's logistic regression).

    `c` is the inverse regularisation strength, or `val`: chosen by validation accuracy from `values` values in 1e-6..1e5,
    ties to the smaller C, then refit on train and validation. Without validation data, a tenth of train is held out instead.
    `standardise` subtracts each feature's mean over the images that are fitted and divides by its standard deviation, so that
    C means the same whatever the features' scale; the references do not.
    """

    default_preprocess: ClassVar[PreprocessName] = "clip"  # DN:dinov2/eval/log_regression.py:376
    score_kind: ClassVar[ScoreKind] = "logits"

    c: Annotated[float, Field(gt=0)] | Literal["val"] = "val"
    values: Annotated[int, Field(ge=2)] = VALUES
    standardise: bool = False

    def depends_on_seed(self, budget: str) -> bool:
        """Return whether examples are drawn at random: held-out examples come from a fixed permutation, as in DINOv2."""
        return shots_of(budget) is not None

    def departures(self, job: Job) -> tuple[str, ...]:
        """A fixed C or another grid than DINOv2's, standardised features, or other preprocessing."""
        found = list(self.other_preprocess(job))
        if self.c != "val":
            found.append(f"C is {self.c:g}, where DINOv2 chooses it")
        elif self.values != VALUES:
            found.append(f"C is chosen from {self.values} values instead of {VALUES}")
        if self.standardise:
            found.append("features are standardised")
        return tuple(found)

    def warm_up(self, device: str) -> None:
        """Fit once."""
        x, y = made_up(device)
        fit(x, y, CLASSES, DEFAULT_C).scores(x)

    def adapt(self, data: Adaptation) -> Adapted:
        """Choose C if asked to, refit on all labelled data, and record every solution's certificate."""
        parts = [split for split in (data.train, data.val) if len(split)]
        x = Rows([data.features(split) for split in parts])
        y = torch.as_tensor(np.concatenate([split.labels for split in parts]), device=data.device)
        c, trials = self._select(data, x, y)
        data.report(0, 0, f"fitting all labelled data at C = {c:.3g}")
        final = self._fit(x, y, data.num_classes, [1 / c])
        certificate = _certificate(final, 0)
        if certificate["relative_gap"] > TOLERANCE:
            data.note(
                f"not converged at C = {c:g}: relative optimality gap {certificate['relative_gap']:.0e}"
            )
        if len(trials) > 1 and c in (trials[0].options["c"], trials[-1].options["c"]):
            data.note(
                f"the chosen C = {c:.3g} is at the end of its grid: features may be of another scale than expected"
            )
        if _predicts_one_class(final, x) and len(y.unique()) > 1:
            data.note(f"at C = {c:.3g} every training image is predicted to be of one class")
        if self.c != "val" or len(trials) == 1:
            trials = (trials[0].model_copy(update={"certificate": certificate}),)
        return Adapted(data.backbone, final.scores, False, trials)

    def _select(self, data: Adaptation, x: Rows, y: Tensor) -> tuple[float, tuple[Trial, ...]]:
        """Return the best C, and one trial per C with its validation accuracy; x and y are train followed by validation."""
        train, held_out = self._split(data, y)
        if self.c != "val" or held_out is None:
            c = DEFAULT_C if self.c == "val" else self.c
            return c, (fixed("c", c),)
        grid = np.logspace(LOWEST, HIGHEST, self.values).tolist()
        data.report(0, 0, f"fitting {len(grid)} values of C together, to choose one on validation")
        solution = self._fit(replace(x, positions=train), y[train], data.num_classes, [1 / c for c in grid])
        accuracies = _accuracies(solution, replace(x, positions=held_out), y[held_out])
        certificates = [_certificate(solution, i) for i in range(len(grid))]
        further = [
            {"certificate": c, "note": "" if c["relative_gap"] <= TOLERANCE else "not converged"}
            for c in certificates
        ]
        return select("c", grid, accuracies, ties="smaller", further=further)

    def _fit(self, x: Rows, y: Tensor, num_classes: int, l2: Sequence[float]) -> LogisticSolution:
        if not self.standardise:
            return fit(x, y, num_classes, l2)
        scale = _scale(x)  # the mean does not matter: the bias is not penalised
        found = fit(replace(x, scale=scale), y, num_classes, l2)
        return replace(found, weights=found.weights / scale[:, None])

    def _split(self, data: Adaptation, y: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return positions to fit on and to choose C on: validation, a tenth of train if a class has ten examples, or none."""
        positions = torch.arange(len(y), device=y.device)
        if len(data.val):
            return positions[: len(data.train)], positions[len(data.train) :]
        count = int(len(y) * HELD_OUT)
        if self.c != "val" or int(torch.bincount(y).max()) < 1 / HELD_OUT:
            if self.c == "val":
                data.note(f"too few labels to choose C on: used {DEFAULT_C:g}")
            return positions, None
        data.note("no validation data: C was chosen on a tenth of train")
        order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0)).to(y.device)
        return order[count:].sort().values, order[:count].sort().values  # ascending, as files are read


def _accuracies(solution: LogisticSolution, x: Rows, y: Tensor) -> list[float]:
    """The accuracy of every solution on features (N, D) with labels y (N,)."""
    hits = [0] * len(solution.weights)
    for place, block in x.blocks(ROWS_SCORED):
        for i in range(len(hits)):
            hits[i] += int((solution.scores(block, i).argmax(1) == y[place]).sum())
    return [hit / len(x) for hit in hits]


def _predicts_one_class(solution: LogisticSolution, x: Rows) -> bool:
    predicted = {
        label
        for _, block in x.blocks(ROWS_SCORED)
        for label in solution.scores(block).argmax(1).unique().tolist()
    }
    return len(predicted) == 1


def _scale(x: Rows) -> Tensor:
    """The standard deviation (D,) of features (N, D), float64; 1 for those that are constant but for rounding.

    The bound for rounding is scikit-learn's (StandardScaler; Chan, Golub and LeVeque 1983).
    """
    mean = torch.stack([block.sum(0) for _, block in x.blocks()]).sum(0) / len(x)
    squares = torch.stack([(block - mean).square().sum(0) for _, block in x.blocks()]).sum(0)
    variance, eps = squares / len(x), torch.finfo(torch.float64).eps
    is_constant = variance <= len(x) * eps * variance + (len(x) * mean * eps).square()
    return torch.where(is_constant, 1.0, variance.sqrt())


def _certificate(solution: LogisticSolution, which: int) -> dict[str, float]:
    names = ("objective", "relative_gap", "duality_gap", "gradient_norm")
    return {name: float(getattr(solution, name)[which]) for name in names}
