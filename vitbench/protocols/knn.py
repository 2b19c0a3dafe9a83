"""The kNN protocol: weighted k-nearest-neighbour vote on frozen features, as in DINOv2 (docs/protocols.md#knn)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from vitbench.api import Adaptation, Adapted, Protocol, Split
from vitbench.core.job import Job, PreprocessName, shots_of
from vitbench.core.lazy_import import lazy_module
from vitbench.core.record import ScoreKind, Trial
from vitbench.core.registry import register_protocol
from vitbench.protocols.made_up import CLASSES, made_up
from vitbench.protocols.selection import fixed, select

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = lazy_module("torch")

TEMPERATURE = 0.07  # DN:dinov2/eval/knn.py:91
QUERIES_PER_BLOCK = 1024  # bounds the similarity matrix to (1024, N)
GRID = (10, 20, 100, 200)  # DN:dinov2/eval/knn.py:90
USUAL = 20  # the k that DINOv2's help text recommends, DN:dinov2/eval/knn.py:58
ROUNDING = (2.0**-20, 2.0**-49)  # largest error of the difference of two cosines, in float32 and in float64
CROWDED = 1e-2  # spread of features relative to the square of their mean, below which float64 is used
SPARE = 8  # extra candidates from which float64 picks the k-th neighbour
CLOSE_BLOCK = 64  # queries whose candidates are gathered together: (64, 208, D) float64


def neighbours(x: Tensor, queries: Tensor, ks: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return descending cosines (M, K) and positions (M, K) of the nearest of x (N, D) to queries (M, D), K = max(ks).

    For every k of `ks`, the first k are exactly the k nearest: near-ties at the k-th are resolved in float64. Only if more than
    `SPARE` copies of one image tie there is the choice among them arbitrary. A k above N returns all N.
    """
    dtype = torch.float64 if _is_crowded(x) else torch.float32
    gallery = torch.nn.functional.normalize(x.to(dtype), dim=1).T
    most = min(max(ks), len(x))
    candidates = min(most + SPARE, len(x))
    borders = torch.tensor([k for k in ks if k < candidates], dtype=torch.long, device=x.device)
    tops, nears = [], []
    for block in queries.to(dtype).split(QUERIES_PER_BLOCK):
        top, near = (torch.nn.functional.normalize(block, dim=1) @ gallery).topk(candidates, dim=1)
        is_close = (top[:, borders - 1] - top[:, borders] < ROUNDING[dtype == torch.float64]).any(1)
        for rows in is_close.nonzero()[:, 0].split(CLOSE_BLOCK):
            cosines, near[rows] = _ranked_in_float64(x, block[rows], near[rows])
            top[rows] = cosines.to(dtype)
        tops.append(top[:, :most].float())
        nears.append(near[:, :most])
    return torch.cat(tops), torch.cat(nears)


def _is_crowded(x: Tensor) -> bool:
    """Whether features (N, D) lie so far from the origin, for their spread, that float32 cannot tell their cosines apart."""
    mean = x.double().mean(0)
    return bool(x.double().var(0, correction=0).sum() < CROWDED * mean.square().sum())


def _ranked_in_float64(x: Tensor, queries: Tensor, near: Tensor) -> tuple[Tensor, Tensor]:
    """Return candidates' cosines and positions (M, K) by descending cosine in float64, ties by position in x."""
    near = near.sort(dim=1).values
    unit = torch.nn.functional.normalize(queries.double(), dim=1)
    cosines = torch.einsum("mkd,md->mk", torch.nn.functional.normalize(x[near].double(), dim=2), unit)
    cosines, order = cosines.sort(dim=1, descending=True, stable=True)
    return cosines, near.gather(1, order)


def tally(top: Tensor, labels: Tensor, ks: Sequence[int], num_classes: int) -> Tensor:
    """Return class scores (len(ks), M, C) from neighbours' cosines and labels (M, K), in descending order; `ks` ascending.

    A neighbour's vote weighs exp(cosine / 0.07), up to a factor common to all neighbours of a query. Each k adds to the scores
    of the previous one, so no memory is needed beyond the result.
    """
    weights = (top / TEMPERATURE).softmax(dim=1)
    scores = top.new_zeros(len(ks), len(top), num_classes)
    counted = 0
    for i, k in enumerate(ks):
        if i:
            scores[i] = scores[i - 1]
        scores[i].scatter_add_(1, labels[:, counted:k], weights[:, counted:k])
        counted = min(k, top.shape[1])
    return scores


def vote(x: Tensor, y: Tensor, queries: Tensor, ks: Sequence[int], num_classes: int) -> Tensor:
    """Return class scores (len(ks), M, C) of queries (M, D) from x (N, D) with labels y (N,); one top-k serves all `ks`."""
    top, near = neighbours(x, queries, ks)
    return tally(top, y[near], ks, num_classes)


@register_protocol("knn", version=3, source="DINOv2, DN:dinov2/eval/knn.py")
@dataclass(frozen=True)
class Knn(Protocol):
    """Weighted k-nearest-neighbour vote on frozen features (DINOv2's evaluation). Neighbours come from train alone.

    `k` is fixed, or `val`: chosen by validation accuracy from 10, 20, 100 and 200, ties to the smaller k (20 without validation
    data).
    """

    default_preprocess: ClassVar[PreprocessName] = "dinov2_knn"
    score_kind: ClassVar[ScoreKind] = "votes"

    k: Annotated[int, Field(ge=1)] | Literal["val"] = USUAL

    def depends_on_seed(self, budget: str) -> bool:
        """Return whether examples are drawn at random: nothing else is random."""
        return shots_of(budget) is not None

    def reads_val(self) -> bool:
        """Return whether k is chosen: no validation image votes."""
        return self.k == "val"

    def departures(self, job: Job) -> tuple[str, ...]:
        """Another k than DINOv2 reports, one that is chosen, or other preprocessing."""
        found = self.other_preprocess(job)
        if self.k == "val":
            return (*found, "k is chosen on validation, where DINOv2 reports every k")
        return found if self.k in GRID else (*found, f"k = {self.k}, which is not one of DINOv2's {GRID}")

    def warm_up(self, device: str) -> None:
        """Vote once."""
        x, y = made_up(device)
        vote(x, y, x, [1], CLASSES)

    def adapt(self, data: Adaptation) -> Adapted:
        """Choose k on validation if asked to, and return a head that votes among the training examples."""
        x, y = data.features(data.train), _labels(data.train, data.device)
        k, trials = self._select(data, x, y)
        if k > len(x):
            data.note(f"k = {k} exceeds the number of training examples ({len(x)}): all of them vote")
        return Adapted(data.backbone, lambda z: vote(x, y, z, [k], data.num_classes)[0], False, trials)

    def _select(self, data: Adaptation, x: Tensor, y: Tensor) -> tuple[int, tuple[Trial, ...]]:
        if self.k != "val":
            return self.k, (fixed("k", self.k),)
        if len(data.val) == 0:
            data.note(f"no validation data to choose k on: used {USUAL}")
            return USUAL, (fixed("k", USUAL),)
        truth = _labels(data.val, data.device)
        queries = data.features(data.val)
        data.report(0, 0, f"voting with {len(GRID)} values of k, to choose one on validation")
        top, near = neighbours(x, queries, GRID)
        hits = [0.0] * len(GRID)
        for part in torch.arange(len(truth)).split(QUERIES_PER_BLOCK):
            predicted = tally(top[part], y[near[part]], GRID, data.num_classes).argmax(2)
            right = (predicted == truth[part]).sum(1).tolist()
            hits = [hit + more / len(truth) for hit, more in zip(hits, right, strict=True)]
        k, trials = select("k", GRID, hits, ties="smaller")
        grid = ", ".join(map(str, GRID))
        data.note(
            f"k = {k} was chosen from {grid} on {len(truth):,} validation images; only training images vote"
        )
        return k, trials


def _labels(split: Split, device: str) -> Tensor:
    return torch.as_tensor(split.labels, device=device)
