"""The ridge-probe protocol: closed-form ridge regression from standardised features to {-1, 1} targets.

This is the ViT paper's few-shot linear evaluation as implemented in big_vision (docs/protocols.md#few-shot-ridge). With X (N,
D) standardised by the training set's mean and population std, Y (N, C) in {-1, 1} and a constant bias feature B = 100,

    W = (X'X + l2 I)^-1 X'Y = X' (XX' + l2 I)^-1 Y,    b = B^2 sum(Y) / (N B^2 + l2)

The bias separates because X is centred. One eigendecomposition, of the smaller of X'X and XX', serves every l2. It is computed
in float64: in float32, accuracies change by up to 0.38 points at small l2 (docs/protocols.md#ridge-precision).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from vitbench.api import Adaptation, Adapted, Protocol, Split
from vitbench.core.job import Job, PreprocessName, shots_of
from vitbench.core.lazy_import import lazy_module
from vitbench.core.record import ScoreKind
from vitbench.core.registry import register_protocol
from vitbench.protocols.made_up import CLASSES, DIM, made_up
from vitbench.protocols.selection import fixed, select

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = lazy_module("torch")

BIAS = 100.0  # BV:evaluators/fewshot_lsr.py:30
STD_FLOOR = 1e-5  # BV:evaluators/fewshot_lsr.py:42-44
FIXED_L2 = 2.0**10  # BV:configs/common_fewshot.py:25
# The grid of the implementation contemporary with the paper: 2^-10 .. 2^19 (docs/protocols.md#few-shot-ridge).
GRID = tuple(2.0**power for power in range(-10, 20))
SCORES_PER_BLOCK = 2**21  # (rows, penalties, C) float32, to stay within a processor's caches
ROWS_PER_BLOCK = 2048  # of features in float64
RANK_TOLERANCE = 2.0**-20  # relative to the scores: the rounding error of a sum of 768 float32 products


@dataclass(frozen=True)
class RidgeSolution:
    """The decomposition of one training set; `weights` and `scores` work with any regularisation strength l2.

    Shapes: mean, std (D,); basis (D, R) and target (R, C) with R = min(N, D); eigenvalues (R,); class_sums (C,) of the targets.
    The columns of the basis are orthogonal, of norm 1 if N > D, otherwise of the square root of their eigenvalue.
    """

    mean: Tensor
    std: Tensor
    basis: Tensor
    eigenvalues: Tensor
    target: Tensor
    class_sums: Tensor
    n_train: int

    def weights(self, l2: float) -> tuple[Tensor, Tensor]:
        """Return weights (D, C) for standardised features and bias (C,), float64."""
        return self.basis @ self._shrunk(l2), self._bias(l2)

    def _shrunk(self, l2: float) -> Tensor:
        return self.target / (self.eigenvalues + l2)[:, None]

    def _bias(self, l2: float) -> Tensor:
        return BIAS**2 * self.class_sums / (self.n_train * BIAS**2 + l2)

    def scores(self, x: Tensor, l2: float) -> Tensor:
        """Return class scores (M, C) float64 of features (M, D)."""
        weights, bias = self.weights(l2)
        folded = weights / self.std[:, None]
        return x.double() @ folded + (bias - self.mean @ folded)

    def top1(self, x: Tensor, y: Tensor, l2: Sequence[float]) -> list[float]:
        """Return the accuracy, in [0, 1], on features (M, D) with labels y (M,) for every l2.

        Solutions differ only by the factors 1 / (eigenvalue + l2), smooth functions of l2: about ten linear combinations
        reproduce all thirty to float32 rounding. Scores are float32, which changes no accuracy if the decomposition is float64
        (docs/protocols.md#ridge-precision). Features are projected onto the basis first if that takes fewer operations.
        """
        d, r = self.basis.shape
        c, count = self.target.shape[1], len(l2)
        parts, coefficients, sizes = self._combinations(l2)
        q = parts.shape[1]
        projection = (self.basis / self.std[:, None]).float()
        weights = (parts[:, :, None] * self.target[:, None]).float().flatten(1)
        projected = len(x) * r * (d + q * c) < d * q * c * (len(x) + r)
        weights = weights if projected else projection @ weights
        shift = (self.mean / self.std) @ self.basis
        offsets = torch.stack([self._bias(value) - shift @ self._shrunk(value) for value in l2])
        offset = (offsets / sizes[:, None]).float()
        hits = torch.zeros(count, dtype=torch.int64, device=x.device)
        rows = max(1, SCORES_PER_BLOCK // (count * c))
        for block, truth in zip(x.split(rows), y.split(rows), strict=True):
            combined = ((block @ projection if projected else block) @ weights).view(len(block), q, c)
            scores = torch.matmul(coefficients, combined).add_(offset)
            hits += (scores.argmax(2) == truth[:, None]).sum(0)
        return [hit / len(x) for hit in hits.tolist()]

    def _combinations(self, l2: Sequence[float]) -> tuple[Tensor, Tensor, Tensor]:
        """Return a low-rank factorisation of the factors of all l2: parts (R, Q), coefficients (L, Q) and sizes (L,).

        The factors (R, L) are parts @ coefficients' times sizes. Q is their numerical rank to `RANK_TOLERANCE`, each factor
        weighted by the norms of the basis vector and target row that it multiplies.
        """
        weight = torch.linalg.vector_norm(self.basis, dim=0) * torch.linalg.vector_norm(self.target, dim=1)
        factors = 1 / (
            self.eigenvalues[:, None] + torch.tensor(l2, dtype=torch.float64, device=weight.device)
        )
        sizes = torch.linalg.vector_norm(factors * weight[:, None], dim=0).clamp(min=1e-300)
        factors = factors / sizes
        _, strengths, vectors = torch.linalg.svd(factors * weight[:, None], full_matrices=False)
        kept = vectors[strengths > RANK_TOLERANCE * strengths[0]].T
        return factors @ kept, kept.float(), sizes

    def left_out_top1(self, x: Tensor, y: Tensor, l2: Sequence[float]) -> list[float]:
        """Return the leave-one-out accuracy on the training examples x (N, D), y (N,) for every l2, in closed form.

        The prediction for a left-out example is y - (y - p) / (1 - h), where p is the fitted value and h the example's diagonal
        entry of the hat matrix. The standardisation is that of all examples.
        """
        lengths = self.eigenvalues.sqrt()
        is_real = lengths > lengths[-1] * 1e-7
        scale = lengths if self.n_train > len(self.basis) else self.eigenvalues
        rows = torch.where(is_real, _standardised(x, self.mean, self.std) @ self.basis / scale, 0.0)
        targets = 2.0 * torch.nn.functional.one_hot(y, self.target.shape[1]).double() - 1.0
        along = rows.T @ targets
        found = []
        for value in l2:
            shrinkage = self.eigenvalues / (self.eigenvalues + value)
            fitted = rows @ (shrinkage[:, None] * along) + self._bias(value)
            own = rows.square() @ shrinkage + BIAS**2 / (self.n_train * BIAS**2 + value)
            left_out = targets - (targets - fitted) / (1 - own)[:, None]
            found.append((left_out.argmax(1) == y).double().mean().item())
        return found


def fit(x: Tensor, y: Tensor, num_classes: int, l2: float | Sequence[float]) -> RidgeSolution:
    """Decompose features x (N, D) with labels y (N,) once, for every regularisation strength in `l2`.

    Raises:
        ValueError: an l2 is not positive; the dual form would have no unique solution.
    """
    if any(value <= 0 for value in ([l2] if isinstance(l2, int | float) else l2)):
        raise ValueError(f"l2 must be positive, not {l2}")
    mean, std = _statistics(x)
    sums = 2.0 * torch.bincount(y, minlength=num_classes).double() - len(y)
    if len(x) > x.shape[1]:
        gram, of_class = mean.new_zeros(x.shape[1], x.shape[1]), mean.new_zeros(num_classes, x.shape[1])
        for rows, labels in zip(x.split(ROWS_PER_BLOCK), y.split(ROWS_PER_BLOCK), strict=True):
            block = _standardised(rows, mean, std)
            gram.addmm_(block.T, block)
            of_class.index_add_(0, labels, block)
        eigenvalues, basis = torch.linalg.eigh(gram)
        # Targets are -1 except for an example's own class; the -1 cancel because the columns are centred.
        target = 2.0 * (of_class @ basis).T
    else:
        whole = _standardised(x, mean, std)
        eigenvalues, rows = torch.linalg.eigh(whole @ whole.T)
        basis = whole.T @ rows
        by_class = rows.new_zeros(num_classes, len(x)).index_add_(0, y, rows)
        target = 2.0 * by_class.T - rows.sum(0)[:, None]
    # Rounding makes zero eigenvalues slightly negative.
    return RidgeSolution(mean, std, basis, eigenvalues.clamp(min=0.0), target, sums, len(x))


def _statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and population std (D,) in float64 of features (N, D), block by block to save memory."""
    blocks = x.split(ROWS_PER_BLOCK)
    mean = torch.stack([block.double().sum(0) for block in blocks]).sum(0) / len(x)
    squares = torch.stack([(block.double() - mean).square_().sum(0) for block in blocks]).sum(0)
    return mean, (squares / len(x)).sqrt() + STD_FLOOR


def _standardised(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    return (x.double() - mean).div_(std)


@register_protocol(
    "ridge_probe", version=1, source="arXiv 2010.11929 sec. 4.1; big_vision, BV:evaluators/fewshot_lsr.py"
)
@dataclass(frozen=True)
class RidgeProbe(Protocol):
    """Closed-form linear probe on frozen features (the ViT paper's few-shot evaluation).

    `l2` is a fixed regularisation strength; or `val`: chosen by validation accuracy from 2^-10..2^19, ties to the larger l2,
    then refit on train and validation; or `loo`: chosen by closed-form leave-one-out accuracy on all labelled data, ties
    likewise. The default is `val` if there is validation data, otherwise, as for N-shot budgets, big_vision's fixed 2^10.
    """

    default_preprocess: ClassVar[PreprocessName] = "fewshot"
    score_kind: ClassVar[ScoreKind] = "regression"

    l2: Annotated[float, Field(gt=0)] | Literal["val", "loo", "default"] = "default"

    def depends_on_seed(self, budget: str) -> bool:
        """Return whether examples are drawn at random: nothing else is random."""
        return shots_of(budget) is not None

    def departures(self, job: Job) -> tuple[str, ...]:
        """Another penalty than big_vision's fixed one, or other preprocessing."""
        found = self.other_preprocess(job)
        if self.l2 == FIXED_L2 or (self.l2 == "default" and shots_of(job.budget)):
            return found
        chosen = {
            "val": "is chosen on validation",
            "default": "is chosen on validation",
            "loo": "is chosen by leave-one-out",
        }
        how = chosen.get(str(self.l2), f"is {self.l2}")
        return (*found, f"l2 {how}; big_vision's is {FIXED_L2:g}")

    def warm_up(self, device: str) -> None:
        """Fit in both forms, with more features than examples and with fewer."""
        for examples in (DIM // 2, 2 * DIM):
            x, y = made_up(device, examples)
            fit(x, y, CLASSES, GRID).top1(x, y, GRID)

    def adapt(self, data: Adaptation) -> Adapted:
        """Fit on train with a fixed l2, or choose l2 by validation or leave-one-out accuracy and fit on all labelled data."""
        if self.l2 == "loo":
            return self._by_leave_one_out(data)
        if self.l2 == "val" or (self.l2 == "default" and len(data.val)):
            if len(data.val):
                return self._by_validation(data)
            data.note(f"no validation data to choose l2 on: used {FIXED_L2:g}")
        l2 = FIXED_L2 if isinstance(self.l2, str) else self.l2
        x, y = _labelled(data, data.train)
        data.report(0, 0, f"fitting at l2 = {l2:g}")
        solution = fit(x, y, data.num_classes, l2)
        return Adapted(data.backbone, lambda z: solution.scores(z, l2), False, (fixed("l2", l2),))

    def _by_validation(self, data: Adaptation) -> Adapted:
        x, y = _labelled(data, data.train)
        x_val, y_val = _labelled(data, data.val)
        data.report(0, 0, f"fitting {len(GRID)} values of l2, to choose one on validation")
        scores = fit(x, y, data.num_classes, GRID).top1(x_val, y_val, GRID)
        l2, trials = select("l2", GRID, scores, ties="larger")
        data.report(0, 0, f"fitting all labelled data at l2 = {l2:g}")
        final = fit(torch.cat([x, x_val]), torch.cat([y, y_val]), data.num_classes, l2)
        return Adapted(data.backbone, lambda z: final.scores(z, l2), False, trials)

    def _by_leave_one_out(self, data: Adaptation) -> Adapted:
        parts = [_labelled(data, split) for split in (data.train, data.val) if len(split)]
        x, y = (torch.cat(both) for both in zip(*parts, strict=True))
        data.report(0, 0, f"fitting {len(GRID)} values of l2, to choose one by leave-one-out")
        solution = fit(x, y, data.num_classes, GRID)
        scores = solution.left_out_top1(x, y, GRID)
        l2, trials = select("l2", GRID, scores, ties="larger", split="train", metric="left-out top1")
        return Adapted(data.backbone, lambda z: solution.scores(z, l2), False, trials)


def _labelled(data: Adaptation, split: Split) -> tuple[Tensor, Tensor]:
    return data.features(split), torch.as_tensor(split.labels, device=data.device)
