"""The solver of `logistic_probe`: multinomial logistic regression for many l2 jointly, each with an optimality certificate.

For every regularisation strength l2, over weights W (D, K) and an unpenalised bias b (K,):

    f = sum_i -log softmax(x_i W + b)[y_i] + l2/2 ||W||^2

is minimised by Newton's method with truncated conjugate gradients. Objectives, gradients and certificates are float64; products
with the Hessian are float32, which is accurate enough for a direction. Features are centred and rotated to their principal
axes, where the Hessian's diagonal is a good preconditioner; only N axes remain if N < D. The path over l2 goes down from the
strongest penalty in coarse steps, each from an extrapolated start; all between are then interpolated and solved together.
Design and other solvers: docs/protocols.md#newton-solver.

The certificate is a duality gap, so it is valid whatever the solver did: with p the predicted probabilities, the dual objective
at (1 - e) p + e q is a lower bound of the optimum, where e and the constant q make each class's column sum to its count.

Under a strong penalty the optimum is near W = 0, whose gap is small although it predicts one class for all. There a solution
must also have a gradient that is small relative to that at W = 0: only then has the largest score settled.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vitbench.core.lazy_import import lazy_module
from vitbench.protocols.principal_axes import PrincipalAxes

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = lazy_module("torch")

MAX_NEWTON_STEPS = 100
MAX_CG_STEPS = 300
MAX_HALVINGS = 30
LOOSE = 0.3  # relative residual of the inner solve, far from the optimum
NEAR_ZERO = (
    1e-2  # improvement over W = 0, relative to the objective, below which the gradient must be small as well
)
SETTLED = 1e-7  # gradient relative to that at W = 0
MOST_SETTLING = 12  # further steps for that
FEW = 0.1  # of the tolerance: a squared decrement below it, known to a tenth, proves that a problem is solved
SURE = 0.1
CHAIN = 4  # penalties per step of the path
WINDOW = 5  # last CG iterations, whose contribution to the decrement estimates the missing part
ARMIJO = 1e-4
SLACK = (
    4 * 2.0**-52
)  # relative to the logits: rounding error of an objective, which is their small difference
ENTRIES_PER_BLOCK = 2**24  # of logits (S, K, N): 134 MB in float64, of which some ten are held


@dataclass(frozen=True)
class Solutions:
    """Solutions on the principal axes, w (S, K, R) and b (S, K), with their objectives and certificates (S,)."""

    w: Tensor
    b: Tensor
    objective: Tensor
    relative_gap: Tensor
    gradient_norm: Tensor
    duality_gap: Tensor


def solve(data: PrincipalAxes, l2: Sequence[float], tolerance: float) -> Solutions:
    """Solve for every l2 to a relative optimality gap of `tolerance`, with at most `MAX_NEWTON_STEPS` steps."""
    ascending = sorted(set(l2))
    penalties = torch.tensor(ascending, dtype=torch.float64, device=data.mean.device)
    s, k = len(ascending), len(data.counts)
    found = Solutions(
        data.mean.new_zeros(s, k, data.basis.shape[1]),
        (data.counts / data.counts.sum()).log().repeat(s, 1),
        *data.mean.new_zeros(4, s),
    )
    block = max(1, ENTRIES_PER_BLOCK // (len(data.labels) * k))
    solved: list[int] = []
    # A single class needs no weights: its objective is 0, which has no relative gap.
    for level in _levels(s) if k > 1 else ():
        for new in level:
            _interpolate_start(found, penalties, new, solved)
        for first in range(0, len(level), block):
            _newton(data, penalties, level[first : first + block], found, tolerance)
        solved = sorted(solved + level)
    rows = torch.tensor([ascending.index(value) for value in l2], device=data.mean.device)
    certificates = (
        values[rows]
        for values in (found.objective, found.relative_gap, found.gradient_norm, found.duality_gap)
    )
    return Solutions(found.w[rows], found.b[rows], *certificates)


def _levels(count: int) -> list[list[int]]:
    """Return the indices of the problems in the order of solving: every fourth from the strongest down, then between."""
    chain = [*range(count - 1, 0, -CHAIN), 0]
    levels, seen = [[i] for i in chain], set(chain)
    for stride in (CHAIN // 2, 1):
        wanted = set(range(count - 1, -1, -stride))
        levels.append(sorted(wanted - seen))
        seen |= wanted
    return [level for level in levels if level]


def _interpolate_start(found: Solutions, l2: Tensor, new: int, solved: Sequence[int]) -> None:
    """Start a problem from up to four solved neighbours, by a polynomial in log l2; from two, if all have stronger penalties.

    The first problem keeps its initial values.
    """
    below = [i for i in solved if i < new][-2:]
    nodes = below + [i for i in solved if i > new][:2]
    at = (l2 / l2[new]).log().tolist()
    for values in (found.w, found.b):
        if nodes:
            weights = (
                math.prod(at[j] / (at[j] - at[i]) for j in nodes if j != i) for i in nodes
            )  # Lagrange's
            values[new] = sum(weight * values[i] for weight, i in zip(weights, nodes, strict=True))


def _newton(
    data: PrincipalAxes, penalties: Tensor, which: list[int], found: Solutions, tolerance: float
) -> None:
    """Improve some of the solutions in `found` by Newton's method, each until its gap is within `tolerance`."""
    live = torch.tensor(which, device=data.mean.device)
    l2, w, b = penalties[live], found.w[live], found.b[live]
    logits = data.logits(w, b)
    fall = torch.full_like(l2, torch.inf)
    settling = torch.zeros_like(l2)
    precision = torch.float32
    for step in range(MAX_NEWTON_STEPS + 1):
        p = logits.softmax(1)
        bound, objective, gw, gb = _certify(data, l2, w, logits, p)
        gap = torch.minimum(bound, fall)
        found.w[live], found.b[live], found.objective[live] = w, b, objective
        found.relative_gap[live], found.duality_gap[live] = gap, bound
        found.gradient_norm[live] = _dot(gw, gw, gb, gb).sqrt()
        unsettled = (gap <= tolerance) & _is_unsettled(data, objective, gw, gb) & (settling < MOST_SETTLING)
        settling = settling + unsettled
        open_ = ((gap > tolerance) | unsettled).nonzero()[:, 0]
        if len(open_) == 0 or step == MAX_NEWTON_STEPS:
            return
        if len(open_) < len(live):
            live, l2, gap, objective, b, gb = (t[open_] for t in (live, l2, gap, objective, b, gb))
            w, logits, p, gw, unsettled, settling = (
                t[open_] for t in (w, logits, p, gw, unsettled, settling)
            )
        # Loose far from the optimum, where a better direction gains nothing; later as exact as the next step can use.
        forcing = torch.maximum((tolerance / (2 * gap)).sqrt(), 0.3 * gap.sqrt()).clamp(max=LOOSE)
        forcing = torch.where(unsettled, 0.1 * LOOSE, forcing)
        negligible = torch.where(unsettled, 0.0, FEW * tolerance * objective)
        dw, db, energy = _direction(data, l2, p.to(precision), gw, gb, forcing, negligible)
        # If float32 does not reach that, retry in float64.
        failed = (energy.isinf() & (forcing < LOOSE)).any()
        precision = torch.float64 if failed else torch.float32
        along = data.logits(dw, db)
        slope = _dot(gw, dw, gb, db)
        t = _line_search(data, l2, (w, dw), (logits, along), objective, slope)
        # Half the squared Newton decrement is the gap before a full step, which only reduces it.
        fall = torch.where(t == 1, energy / objective, torch.inf)
        w, b = w + t[:, None, None] * dw, b + t[:, None] * db
        logits = logits + t[:, None, None] * along


def _is_unsettled(data: PrincipalAxes, objective: Tensor, gw: Tensor, gb: Tensor) -> Tensor:
    """Return (S,) whether solutions with these objectives and gradients are near W = 0, and may still predict one class."""
    at_zero = -(data.counts * (data.counts / data.counts.sum()).log()).sum()
    rounding = SLACK * (len(data.labels) + torch.linalg.vector_norm(data.absolute_sums))
    largest = SETTLED * torch.linalg.vector_norm(data.class_sums) + rounding
    unsettled: Tensor = _dot(gw, gw, gb, gb).sqrt() > largest
    return unsettled & (at_zero - objective < NEAR_ZERO * objective)


def _certify(
    data: PrincipalAxes, l2: Tensor, w: Tensor, logits: Tensor, p: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return relative duality gaps (S,), objectives (S,) and gradients (S, K, R), (S, K)."""
    total = logits.logsumexp(1)
    entropy = (total - (p * logits).sum(1)).sum(1)
    loss = (total - data.of_label(logits)).sum(1)
    predicted = p.sum(2)
    gradient = data.times_z(p) - data.class_sums
    objective = loss + 0.5 * l2 * w.square().sum((1, 2))
    shrunk = (1 - data.counts / predicted).amax(1).clamp(min=0)
    dual_w = shrunk[:, None, None] * (gradient + data.class_sums) - gradient
    dual = (1 - shrunk) * entropy - 0.5 * dual_w.square().sum((1, 2)) / l2
    gap = (objective - dual) / objective.clamp(min=1e-300)
    return gap, objective, gradient + l2[:, None, None] * w, predicted - data.counts


def _direction(
    data: PrincipalAxes,
    l2: Tensor,
    p: Tensor,
    gw: Tensor,
    gb: Tensor,
    forcing: Tensor,
    negligible: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return Newton directions in float64, by conjugate gradients in the precision of p, and squared decrements (S,).

    The Hessian's diagonal is the preconditioner. A problem stops when its residual, in the preconditioner's norm, falls below
    `forcing` (S,) times its gradient. Unless that is loose, the decrement must also have settled: the last iterations added a
    negligible amount, which estimates the part missing before them (Strakos and Tichy, ETNA 13, 2002), or the residual is at
    rounding level. The decrement of a problem that has not settled is infinite. A problem whose squared decrement has settled
    below `negligible` (S,) needs no good direction: it is solved.
    """
    gb = gb - gb.mean(1, keepdim=True)  # 0 but for rounding: the same bias for all classes changes nothing
    scale = _dot(gw, gw, gb, gb).sqrt().clamp(min=1e-300)
    rw, rb = -(gw / scale[:, None, None]).to(p.dtype), -(gb / scale[:, None]).to(p.dtype)
    l2, forcing, negligible = (t.to(p.dtype) for t in (l2, forcing, negligible / scale.square()))
    spread = p * (1 - p)
    mw = data.times_squares(spread) + l2[:, None, None]
    mb = spread.sum(2).clamp(min=torch.finfo(torch.float32).tiny)
    out_w, out_b, decrement = torch.zeros_like(rw), torch.zeros_like(rb), torch.full_like(l2, torch.inf)
    live = torch.arange(len(l2), device=l2.device)
    xw, xb = torch.zeros_like(rw), torch.zeros_like(rb)
    dw, db = rw / mw, rb / mb
    rho = _dot(rw, dw, rb, db)
    goal, rounding = forcing.square() * rho, torch.finfo(p.dtype).eps ** 2 * rho
    added = rho.new_zeros(len(rho), WINDOW)
    energy = torch.zeros_like(rho)
    for i in range(MAX_CG_STEPS):
        hw, hb = _hessian_product(data, l2, p, dw, db)
        curvature = _dot(dw, hw, db, hb)
        step = torch.where(curvature > 0, rho / curvature, 0)
        added[:, i % WINDOW] = step * rho
        energy = energy + step * rho
        xw, xb = xw + step[:, None, None] * dw, xb + step[:, None] * db
        rw, rb = rw - step[:, None, None] * hw, rb - step[:, None] * hb
        zw, zb = rw / mw, rb / mb
        before, rho = rho, _dot(rw, zw, rb, zb)
        late = added.sum(1)
        settled = (late <= forcing.square() * energy) & (i >= WINDOW) | (rho <= rounding)
        solved = (energy <= negligible) & (late <= SURE * energy) & (i >= WINDOW)
        ended = (rho <= goal) & (settled | (forcing >= LOOSE)) | (curvature <= 0) | solved
        out_w[live], out_b[live] = xw, xb
        decrement[live] = torch.where(settled | solved, energy, torch.inf)
        going = (~ended).nonzero()[:, 0]
        if len(going) == 0:
            break
        grown = torch.where(before > 0, rho / before, 0)  # of features whose squares underflow, both are 0
        dw, db = zw + grown[:, None, None] * dw, zb + grown[:, None] * db
        if len(going) < len(live):
            live, l2, rho, goal, rounding, forcing, energy, added, negligible = (
                t[going] for t in (live, l2, rho, goal, rounding, forcing, energy, added, negligible)
            )
            xb, rb, db, mb, xw, rw, dw, mw, p = (t[going] for t in (xb, rb, db, mb, xw, rw, dw, mw, p))
    out_w, out_b = out_w.double() * scale[:, None, None], out_b.double() * scale[:, None]
    return out_w, out_b, decrement.double() * scale.square()


def _hessian_product(
    data: PrincipalAxes, l2: Tensor, p: Tensor, dw: Tensor, db: Tensor
) -> tuple[Tensor, Tensor]:
    change = data.logits(dw, db)
    # Relative to the true class, whose p is near 1; otherwise the difference below cancels in float32.
    change = change.sub_(data.of_label(change)[:, None]).mul_(p)
    change.addcmul_(p, change.sum(1, keepdim=True), value=-1)
    return data.times_z(change) + l2[:, None, None] * dw, change.sum(2)


def _dot(aw: Tensor, bw: Tensor, ab: Tensor, bb: Tensor) -> Tensor:
    total: Tensor = torch.linalg.vecdot(aw.flatten(1), bw.flatten(1)) + torch.linalg.vecdot(ab, bb)
    return total


def _line_search(
    data: PrincipalAxes, l2: Tensor, weights: tuple[Tensor, Tensor], logits: tuple[Tensor, Tensor],
    objective: Tensor, slope: Tensor,
) -> Tensor:  # fmt: skip
    """Return step lengths (S,), halved from 1 to Armijo's condition; logits are linear in the step: no products needed."""
    (w, dw), (at, along) = weights, logits
    squares = [(a * b).sum((1, 2)) for a, b in ((w, w), (w, dw), (dw, dw))]
    t = torch.ones_like(l2)
    for _ in range(MAX_HALVINGS):
        there = at + t[:, None, None] * along
        total, own = there.logsumexp(1), data.of_label(there)
        reached = (total - own).sum(1) + 0.5 * l2 * (squares[0] + 2 * t * squares[1] + t * t * squares[2])
        slack = SLACK * (objective + total.abs().sum(1) + own.abs().sum(1))
        short = reached > objective + slack + ARMIJO * t * slope
        if not short.any():
            break
        t = torch.where(short, t / 2, t)
    return t
