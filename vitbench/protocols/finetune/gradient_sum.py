"""The sum of gradients over all ranks, while the backward pass computes others.

As in DistributedDataParallel (arXiv 2006.15704), gradients share buckets in the order in which they arrive, and a bucket is
summed once it is full. DistributedDataParallel itself cannot go on when one rank runs out of memory in its backward pass: the
others wait for a bucket that never comes. Here every rank sums every bucket, whatever has happened to it, and then all learn
whether all have finished.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from vitbench.protocols.finetune import distributed


class GradientSum:
    """Sums the gradients of these weights: `begin` before the step's last backward pass, `end` after it."""

    def __init__(self, weights: Sequence[Tensor]) -> None:
        self.weights = list(weights)
        self.places = {weight: place for place, weight in enumerate(self.weights)}
        self.order = list(reversed(range(len(self.weights))))  # until the first step shows it
        self.arrived: list[int] = []
        self.is_known = self.is_open = False
        self._arrange()
        for weight in self.weights:
            weight.register_post_accumulate_grad_hook(self._arrive)

    def _arrange(self) -> None:
        """Divide the weights into buckets, and await the first."""
        self.buckets = distributed.buckets([self.weights[place] for place in self.order])
        self.bucket_of = {weight: i for i, bucket in enumerate(self.buckets) for weight in bucket}
        self._await_first()

    def _await_first(self) -> None:
        self.missing = [len(bucket) for bucket in self.buckets]
        self.pending: list[tuple[Tensor, dist.Work]] = []
        self.is_open = False

    def begin(self) -> None:
        """From now on, gradients that arrive are final."""
        self.arrived = []
        self.is_open = True

    def _arrive(self, weight: Tensor) -> None:
        if not self.is_open:
            return
        self.arrived.append(self.places[weight])
        self.missing[self.bucket_of[weight]] -= 1
        while len(self.pending) < len(self.buckets) and not self.missing[len(self.pending)]:
            self._send()

    @torch.no_grad()
    def _send(self) -> None:
        """Start to sum the next bucket; a gradient that is not there counts as zero."""
        bucket = self.buckets[len(self.pending)]
        flat = bucket[0].new_zeros(sum(weight.numel() for weight in bucket))
        there = [(p, w.grad) for p, w in zip(_parts(flat, bucket), bucket, strict=True) if w.grad is not None]
        if there:
            torch._foreach_copy_([part for part, _ in there], [gradient for _, gradient in there])
        self.pending.append((flat, dist.all_reduce(flat, async_op=True)))

    @torch.no_grad()
    def end(self, fits: bool) -> bool:
        """Replace the gradients by their sums if every rank has all of its own; else return False.

        A weight that no rank has a gradient of keeps none, so that it is not decayed either.
        """
        while len(self.pending) < len(self.buckets):
            self._send()
        found = distributed.minima([int(fits), *(int(weight.grad is None) for weight in self.weights)])
        fit, unused = found[0], found[1:]
        for (flat, work), bucket in zip(self.pending, self.buckets, strict=True):
            work.wait()
            for weight, part in zip(bucket, _parts(flat, bucket), strict=True):
                if fit and not unused[self.places[weight]]:
                    weight.grad = part.clone() if weight.grad is None else weight.grad.copy_(part)
        if fit and not self.is_known:
            self._learn_order()
        self._await_first()
        return bool(fit)

    def _learn_order(self) -> None:
        """From the next step on, buckets follow the order in which rank 0's gradients have come; unused weights are last."""
        never = [place for place in self.order if place not in set(self.arrived)]
        self.order = distributed.broadcast([*self.arrived, *never])
        self.is_known = True
        self._arrange()


def _parts(flat: Tensor, bucket: Sequence[Tensor]) -> list[Tensor]:
    """The part of each weight, in its shape."""
    sizes = [weight.numel() for weight in bucket]
    return [part.view(weight.shape) for part, weight in zip(flat.split(sizes), bucket, strict=True)]
