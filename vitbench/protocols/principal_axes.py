"""Features on their principal axes, as the solver of `logistic_probe` sees them: in memory, or read block by block.

On these axes the Hessian's diagonal is a good preconditioner. What is held takes seven times the memory of float32 features;
above `STREAMED_BYTES` of features nothing of their size is held: every product reads them again, from the cache's files if they
are mapped from there.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from vitbench.core.lazy_import import lazy_module

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = lazy_module("torch")

STREAMED_BYTES = 2 * 2**30  # of float32 features; ImageNet's training set at 768 features has 3.9 GB
BLOCK_BYTES = 64 * 2**20  # of float64 features, read at a time


@dataclass(frozen=True)
class Rows:
    """Features (N, D) in several tensors, one after another; each row divided by `scale` (D,) if there is one.

    `positions` are the rows that are meant, of all; reading them in ascending order suits files. Nothing is copied but a block.
    """

    parts: Sequence[Tensor]
    positions: Tensor | None = None
    scale: Tensor | None = None

    def __len__(self) -> int:
        return sum(map(len, self.parts)) if self.positions is None else len(self.positions)

    @property
    def width(self) -> int:
        """D."""
        return int(self.parts[0].shape[1])

    @property
    def device(self) -> torch.device:
        """Where the features are."""
        return self.parts[0].device

    def blocks(self, size: int | None = None) -> Iterator[tuple[slice, Tensor]]:
        """Consecutive rows as float64, with their places."""
        size = size or max(BLOCK_BYTES // (8 * self.width), 1)
        for start in range(0, len(self), size):
            place = slice(start, min(start + size, len(self)))
            block = self._at(place).double()
            yield place, block if self.scale is None else block / self.scale

    def whole(self) -> Tensor:
        """All rows, in memory, in their own precision or, if scaled, float64."""
        found = self._at(slice(0, len(self)))
        return found if self.scale is None else found.double() / self.scale

    def _at(self, place: slice) -> Tensor:
        if self.positions is not None:
            return self._gathered(self.positions[place])
        found, first = [], 0
        for part in self.parts:
            start, stop = max(place.start - first, 0), min(place.stop - first, len(part))
            if start < stop:
                found.append(part[start:stop])
            first += len(part)
        return found[0] if len(found) == 1 else torch.cat(found)

    def _gathered(self, positions: Tensor) -> Tensor:
        if len(self.parts) == 1:
            return self.parts[0][positions]
        found = self.parts[0].new_empty(len(positions), self.width)
        first = 0
        for part in self.parts:
            inside = (positions >= first) & (positions < first + len(part))
            found[inside] = part[positions[inside] - first]
            first += len(part)
        return found


@dataclass(frozen=True)
class PrincipalAxes(ABC):
    """Features on their principal axes: x = mean + z basis', with z (N, R), mean (D,) and orthonormal basis (D, R).

    Labels (N,), class counts (K,), and class_sums (K, R) of z.
    """

    mean: Tensor
    basis: Tensor
    labels: Tensor
    counts: Tensor
    class_sums: Tensor
    absolute_sums: Tensor

    def logits(self, w: Tensor, b: Tensor) -> Tensor:
        """Return logits (S, K, N) of weights (S, K, R) and biases (S, K), in the weights' precision."""
        return self._times_weights(w.flatten(0, 1)).view(*b.shape, len(self.labels)) + b[..., None]

    def times_z(self, residuals: Tensor) -> Tensor:
        """Return residuals (S, K, N) times z, (S, K, R)."""
        found = self._times_rows(residuals.flatten(0, 1))
        return found.view(*residuals.shape[:2], found.shape[1])

    def times_squares(self, spread: Tensor) -> Tensor:
        """Return spread (S, K, N) times the squares of z, (S, K, R)."""
        found = self._times_squared_rows(spread.flatten(0, 1))
        return found.view(*spread.shape[:2], found.shape[1])

    def of_label(self, logits: Tensor) -> Tensor:
        """Return the logits (S, N) of each example's true class from logits (S, K, N)."""
        return logits[:, self.labels, torch.arange(len(self.labels), device=logits.device)]

    @abstractmethod
    def _times_weights(self, weights: Tensor) -> Tensor:
        """Weights (M, R) times z', (M, N)."""

    @abstractmethod
    def _times_rows(self, residuals: Tensor) -> Tensor:
        """Residuals (M, N) times z, (M, R)."""

    @abstractmethod
    def _times_squared_rows(self, spread: Tensor) -> Tensor:
        """Values (M, N) times the squares of z, (M, R)."""


@dataclass(frozen=True)
class AxesInMemory(PrincipalAxes):
    """z is held in float64, and in float32."""

    z: Tensor = field(kw_only=True)

    @cached_property
    def z32(self) -> Tensor:
        """Z in float32."""
        return self.z.float()

    def _times_weights(self, weights: Tensor) -> Tensor:
        return weights @ self._z(weights).T

    def _times_rows(self, residuals: Tensor) -> Tensor:
        return residuals @ self._z(residuals)

    def _times_squared_rows(self, spread: Tensor) -> Tensor:
        return spread @ self._z(spread).square()

    def _z(self, like: Tensor) -> Tensor:
        return self.z if like.dtype == torch.float64 else self.z32


@dataclass(frozen=True)
class StreamedAxes(PrincipalAxes):
    """z is never held: weights are rotated instead of features, and a block of features is centred when it is read."""

    rows: Rows = field(kw_only=True)

    def _times_weights(self, weights: Tensor) -> Tensor:
        rotated = weights @ self.basis.T.to(weights.dtype)
        found = weights.new_empty(len(weights), len(self.rows))
        for place, block in self.rows.blocks():
            found[:, place] = rotated @ (block - self.mean).to(weights.dtype).T
        return found

    def _times_rows(self, residuals: Tensor) -> Tensor:
        found = residuals.new_zeros(len(residuals), self.rows.width)
        for place, block in self.rows.blocks():
            found += residuals[:, place] @ (block - self.mean).to(residuals.dtype)
        return found @ self.basis.to(residuals.dtype)

    def _times_squared_rows(self, spread: Tensor) -> Tensor:
        found = spread.new_zeros(len(spread), self.basis.shape[1])
        basis = self.basis.to(spread.dtype)
        for place, block in self.rows.blocks():
            found += spread[:, place] @ ((block - self.mean).to(spread.dtype) @ basis).square()
        return found


def to_principal_axes(rows: Rows, labels: Tensor, num_classes: int) -> PrincipalAxes:
    """Return features (N, D) on their principal axes, from the smaller Gram matrix; axes without variance are dropped."""
    counts = torch.bincount(labels, minlength=num_classes).double()
    if 4 * len(rows) * rows.width > STREAMED_BYTES and len(rows) > rows.width:
        return _streamed(rows, labels, counts)
    x = rows.whole().double()
    mean = x.mean(0)
    centred = x - mean
    del x
    if len(rows) > rows.width:
        basis = torch.linalg.eigh(centred.T @ centred).eigenvectors
        z = centred @ basis
    else:
        values, vectors = torch.linalg.eigh(centred @ centred.T)
        # Constant features keep one axis, to avoid empty shapes.
        real = values > values[-1].clamp(min=1e-300) * len(rows) * torch.finfo(torch.float64).eps
        real[-1] = True
        lengths = values[real].clamp(min=1e-300).sqrt()
        z = vectors[:, real] * lengths
        basis = centred.T @ vectors[:, real] / lengths
    sums = z.new_zeros(len(counts), z.shape[1]).index_add_(0, labels, z)
    return AxesInMemory(mean, basis, labels, counts, sums, z.abs().sum(0), z=z)


def _streamed(rows: Rows, labels: Tensor, counts: Tensor) -> PrincipalAxes:
    """The same, in three passes over the features: mean, Gram matrix, sums on the axes."""
    mean = torch.stack([block.sum(0) for _, block in rows.blocks()]).sum(0) / len(rows)
    gram = mean.new_zeros(rows.width, rows.width)
    for _, block in rows.blocks():
        centred = block - mean
        gram.addmm_(centred.T, centred)
    basis = torch.linalg.eigh(gram).eigenvectors
    sums = mean.new_zeros(len(counts), rows.width)
    absolute = torch.zeros_like(mean)
    for place, block in rows.blocks():
        z = (block - mean) @ basis
        sums.index_add_(0, labels[place], z)
        absolute += z.abs().sum(0)
    return StreamedAxes(mean, basis, labels, counts, sums, absolute, rows=rows)
