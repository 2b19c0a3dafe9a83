"""Training images, batch by batch: decoded once and kept on the device where they fit, cropped and mirrored there.

What a batch holds is a function of (seed, step): a run can go on from any step, and it does not matter how the next batches are
made ready. Resizing to `resize_px` and cutting a square out of that is one bilinear lookup, TensorFlow 2's without antialias.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from itertools import chain, count
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from vitbench.api import Split
from vitbench.core.errors import UsageError
from vitbench.core.seeding import torch_generator
from vitbench.data import augment
from vitbench.data.loader import alone
from vitbench.data.packed_images import PackedImages
from vitbench.data.preprocess import moved
from vitbench.protocols.recipes import Recipe

RESIDENT_SHARE = 0.25  # of a GPU's memory
RESIDENT_BYTES = 4 * 2**30  # on a CPU
AT_ONCE = 16  # images decoded by one thread


@dataclass(frozen=True)
class Order:
    """Examples of every step: pass after pass in a fresh seeded order, with no gap between passes."""

    examples: int
    batch_size: int
    seed: int

    def __call__(self, step: int) -> NDArray[np.int64]:
        """Positions (B,) of a step's batch."""
        first = step * self.batch_size
        places = np.arange(first, first + self.batch_size)
        passes = places // self.examples
        found = np.empty_like(places)
        for one in np.unique(passes):
            here = passes == one
            found[here] = self._of_pass(int(one))[places[here] % self.examples]
        return found

    @cached_property
    def _of_pass(self) -> Callable[[int], NDArray[np.int64]]:
        @lru_cache(maxsize=2)
        def shuffled(one: int) -> NDArray[np.int64]:
            generator = torch_generator(self.seed, f"finetune order {one}")
            return torch.randperm(self.examples, generator=generator).numpy()

        return shuffled


class TrainingImages:
    """The labelled images of a run, as batches of normalised images (B, 3, S, S) with labels (B,) or shares (B, C).

    `place` (i, n): of every batch this is the i-th of n processes' part, from 0. Whatever is drawn is drawn for the whole.

    Raises:
        UsageError: the recipe cuts larger squares than the images that it cuts them from.
    """

    def __init__(
        self, data: Any, splits: Sequence[Split], recipe: Recipe, size_px: int, classes: int,
        place: tuple[int, int] = (0, 1),
    ) -> None:  # fmt: skip
        self.data, self.recipe, self.size_px, self.classes = data, recipe, size_px, classes
        self.splits, self.place = splits, place
        self.ends = np.cumsum([len(split) for split in splits])
        self.labels = torch.as_tensor(np.concatenate([split.labels for split in splits])).to(data.device)
        self.order = Order(len(self.labels), recipe.batch_size, data.seed)
        self.how = augment.Augmentation(recipe.crop, recipe.flip, recipe.mixup_alpha).allowed(
            flip=data.flip, crop=data.crop
        )
        if self.how.crop == "random" and (recipe.resize_px or 0) < size_px:
            raise UsageError(
                f"crop: random cannot cut {size_px} px from resize_px {recipe.resize_px}: give a larger one"
            )
        # As many as this thread may use; the one that makes batches ahead has an operator's share for itself alone.
        self.readers = ThreadPoolExecutor(max(torch.get_num_threads(), 1), initializer=alone)
        self.kept = self._kept()

    def batches(self, first: int) -> Iterator[tuple[Tensor, Tensor, int]]:
        """Batches from a step on, without end, each with its size in all processes, the next one made ready meanwhile.

        But for images that lie there already on a CPU: its cores are busy, and a third thread costs more than it does.
        """
        whole = self.order.batch_size
        if self.kept is not None and not self.data.device.startswith("cuda"):
            for step in count(first):
                yield *self.batch(step), whole
        with ThreadPoolExecutor(1, initializer=alone) as ahead:
            coming = ahead.submit(self.batch, first)
            for step in count(first + 1):
                ready = coming.result()
                coming = ahead.submit(self.batch, step)
                yield *ready, whole

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """One step's batch, or this process' part of it."""
        process, processes = self.place
        chosen = self.order(step)
        drawn = _apart(chosen, self.order.examples)
        rows = np.array_split(np.arange(len(chosen)), processes)[process]
        with torch.no_grad():
            images, labels = self._made(chosen[rows], drawn[rows], step)
            if not self.how.mixup_alpha:
                return images, labels
            shares, partners = self._shares(labels), len(chosen) - 1 - rows
            if processes == 1:
                others, theirs = images.flip(0), shares.flip(0)
            else:
                others, labels = self._made(chosen[partners], drawn[partners], step)
                theirs = self._shares(labels)
            share = augment.mixup_share(self.how.mixup_alpha, self.data.seed, step)
            return augment.mixed(images, others, share), augment.mixed(shares, theirs, share)

    def _shares(self, labels: Tensor) -> Tensor:
        return F.one_hot(labels, self.classes).float()

    def _made(self, chosen: NDArray[np.int64], drawn: NDArray[np.int64], step: int) -> tuple[Tensor, Tensor]:
        """Normalised images and labels of some examples."""
        images = self._images(chosen, drawn, step)
        if self.how.flip:
            images = augment.flip(images, self.data.seed, step, drawn)
        return self.data.normalise(images), self.labels[moved(chosen, self.labels.device)]

    def _images(self, chosen: NDArray[np.int64], drawn: NDArray[np.int64], step: int) -> Tensor:
        if self.recipe.crop == "none":
            return self._at(chosen)
        kept, which = self.kept, chosen
        if not isinstance(kept, PackedImages):
            kept = PackedImages(self._natives_read(chosen), torch.device(self.data.device))
            which = np.arange(len(chosen))
        boxes = self._boxes(kept.sizes[which], step, drawn)
        return kept.resized(which, boxes, self.size_px, cut_first=self.how.crop == "inception")

    def _boxes(self, sizes: NDArray[np.int64], step: int, drawn: NDArray[np.int64]) -> NDArray[Any]:
        """What is looked at of each image, in its own pixels; a cut from the resized image need not start on one."""
        if self.how.crop == "none":
            return np.column_stack([np.zeros_like(sizes), sizes])
        if self.how.crop == "inception":
            return augment.inception_boxes(sizes, self.data.seed, step, drawn)
        resized = self.recipe.resize_px or self.size_px
        places = augment.crop_places(resized - self.size_px, self.data.seed, step, drawn)
        scale = sizes / resized
        return np.column_stack([places * scale, self.size_px * scale])

    def _kept(self) -> PackedImages | Tensor | None:
        """All images on the device, or None if they do not fit: then each batch is read when its turn comes."""
        if self.recipe.crop == "none":
            bytes_each = 12.0 * self.size_px**2
        else:
            few = self._natives_read(np.arange(min(len(self.labels), 16)))
            bytes_each = float(np.mean([image.nbytes for image in few]))
        cuda = self.data.device.startswith("cuda")
        total = torch.cuda.get_device_properties(self.data.device).total_memory if cuda else 0
        room = RESIDENT_SHARE * total if cuda else RESIDENT_BYTES
        if bytes_each * len(self.labels) > room:
            return None
        if self.recipe.crop == "none":
            return torch.cat([self.data.pixels(split, self.size_px) for split in self.splits])
        expected = int(1.1 * bytes_each / 3 * len(self.labels))
        return PackedImages(self._read(np.arange(len(self.labels))), torch.device(self.data.device), expected)

    def _at(self, chosen: NDArray[np.int64]) -> Tensor:
        """Images as the job's preprocessing makes them."""
        if isinstance(self.kept, Tensor):
            return self.kept[moved(chosen, self.kept.device)]
        parts = [(rows, self.data.pixels(part, self.size_px)) for rows, part in self._parts(chosen)]
        order = np.argsort(np.concatenate([rows for rows, _ in parts]))
        return torch.cat([pixels for _, pixels in parts])[moved(order, self.labels.device)]

    def _parts(self, chosen: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], Split]]:
        """The examples at these positions of all splits, split by split, with their rows among them."""
        of = np.searchsorted(self.ends, chosen, side="right")
        for i, split in enumerate(self.splits):
            rows = np.flatnonzero(of == i)
            if len(rows):
                yield rows, split.take(chosen[rows] - (self.ends[i] - len(split)))

    def _natives_read(self, chosen: NDArray[np.int64]) -> list[NDArray[np.uint8]]:
        """Images at positions in any order."""
        order = np.argsort(chosen, kind="stable")
        found: list[Any] = [None] * len(chosen)
        for row, image in zip(order, self._read(chosen[order]), strict=True):
            found[row] = image
        return found

    def _read(self, ascending: NDArray[np.int64]) -> Iterator[NDArray[np.uint8]]:
        """Images at ascending positions, as they come."""
        for _, part in self._parts(ascending):
            blocks = [part.indices[i : i + AT_ONCE].tolist() for i in range(0, len(part), AT_ONCE)]
            yield from chain.from_iterable(self.readers.map(partial(part.source.read, fast_dct=True), blocks))


def _apart(chosen: NDArray[np.int64], examples: int) -> NDArray[np.int64]:
    """What crops and flips are drawn by: the example, and for one that a batch holds again another number each time."""
    order = np.argsort(chosen, kind="stable")
    ranked = chosen[order]
    begins = np.concatenate([[True], ranked[1:] != ranked[:-1]])
    firsts = np.maximum.accumulate(np.where(begins, np.arange(len(ranked)), 0))
    again = np.empty_like(chosen)
    again[order] = np.arange(len(ranked)) - firsts
    return chosen + examples * again
