"""Training batches: images are decoded once and held on the device if they fit, and cropped and flipped there.

A batch depends on (seed, step) only, so a run can resume at any step, with or without prefetching. Resizing to `resize_px` and
cropping are one bilinear lookup, as TensorFlow 2's resize without antialias. Random resized crops and RandAugment are made by
Pillow on the CPU instead, image by image in several threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from itertools import chain, count
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from vitbench.api import Split
from vitbench.compute.meter import outside
from vitbench.core.errors import UsageError
from vitbench.core.seeding import torch_generator
from vitbench.data import augment, mixing, rand_augment, resized_crop
from vitbench.data.erasing import erase
from vitbench.data.loader import alone
from vitbench.data.packed_images import CHANNELS, PackedImages
from vitbench.data.preprocess import moved
from vitbench.protocols.finetune.distributed import ALONE, Process
from vitbench.protocols.recipe import Recipe

RESIDENT_SHARE = 0.25  # of a GPU's memory, for images held there
RESIDENT_BYTES = 4 * 2**30  # the same on a CPU
IMAGES_PER_READ = 16  # in one thread's task


@dataclass(frozen=True)
class Order:
    """The examples of every step: each epoch in a new seeded order.

    With `span`, a batch may span two epochs or more. Otherwise an epoch has whole batches, and then a shorter one (`keep`) or
    none (`drop`).
    """

    examples: int
    batch_size: int
    seed: int
    last_batch: Literal["span", "keep", "drop"] = "span"

    def __call__(self, step: int) -> NDArray[np.int64]:
        """Return the positions (B,) of the examples of a step, counted from 0."""
        if self.last_batch != "span":
            epoch, batch = divmod(step, self.batches_per_epoch)
            first = batch * self.batch_size
            return self._permutation(epoch)[first : first + self.batch_size]
        first = step * self.batch_size
        draws = np.arange(first, first + self.batch_size)
        epochs = draws // self.examples
        found = np.empty_like(draws)
        for epoch in np.unique(epochs):
            rows = epochs == epoch
            found[rows] = self._permutation(int(epoch))[draws[rows] % self.examples]
        return found

    @property
    def batches_per_epoch(self) -> int:
        """How many batches an epoch has, at least one; not of `span`."""
        whole, rest = divmod(self.examples, self.batch_size)
        return max(whole + (rest > 0 and self.last_batch == "keep"), 1)

    def images(self, steps: int) -> int:
        """How many images are seen in the first steps."""
        if self.last_batch == "span":
            return steps * self.batch_size
        return sum(len(self(step)) for step in range(min(steps, self.batches_per_epoch))) * (
            steps // self.batches_per_epoch
        ) + sum(len(self(step)) for step in range(steps % self.batches_per_epoch))

    @cached_property
    def _permutation(self) -> Callable[[int], NDArray[np.int64]]:
        @lru_cache(maxsize=2)
        def permutation(epoch: int) -> NDArray[np.int64]:
            generator = torch_generator(self.seed, f"finetune order {epoch}")
            return torch.randperm(self.examples, generator=generator).numpy()

        return permutation


class TrainingImages:
    """The batches of a run: normalised images (B, 3, S, S) with labels (B,), or class probabilities (B, C) if they are mixed.

    `process` selects this rank's part of every batch. Random numbers are drawn for the global batch, which
    therefore does not depend on the world size.

    Raises:
        UsageError: the recipe's crops are larger than the images that they are cut from.
    """

    def __init__(
        self, data: Any, splits: Sequence[Split], recipe: Recipe, size_px: int, classes: int,
        process: Process = ALONE,
    ) -> None:  # fmt: skip
        self.data, self.recipe, self.size_px, self.classes = data, recipe, size_px, classes
        self.splits = splits
        self.process = process
        self.ends = np.cumsum([len(split) for split in splits])
        self.labels = torch.as_tensor(np.concatenate([split.labels for split in splits])).to(data.device)
        self.order = Order(len(self.labels), recipe.batch_size, data.seed, recipe.last_batch)
        self.augmentation = augmentation_of(recipe).allowed(flip=data.flip, crop=data.crop)
        if self.augmentation.crop == "random" and (recipe.resize_px or 0) < size_px:
            raise UsageError(
                f"crop: random cannot cut {size_px} px from resize_px {recipe.resize_px}: give a larger resize_px"
            )
        # Resized crops are cut by Pillow, on the CPU, from images as Pillow decodes them.
        self.by_pillow = recipe.crop in resized_crop.KINDS
        self.place = torch.device("cpu" if self.by_pillow else data.device)
        # As many readers as this thread may use threads; a prefetching thread runs its operators single-threaded.
        self.readers = ThreadPoolExecutor(max(torch.get_num_threads(), 1), initializer=alone)
        with outside("images"):
            self.resident = self._load_resident()

    def batches(self, first: int) -> Iterator[tuple[Tensor, Tensor, int]]:
        """Yield images, labels and the global batch size of every step from `first` on, endlessly, prefetching one batch.

        Images held in memory on a CPU are not prefetched: all cores are busy, and another thread costs more than it gains.
        """
        if self.resident is not None and not self.data.device.startswith("cuda"):
            for step in count(first):
                yield *self.batch(step), len(self.order(step))
        with ThreadPoolExecutor(1, initializer=alone) as prefetcher:
            upcoming = prefetcher.submit(self.batch, first)
            for step in count(first):
                batch = upcoming.result()
                upcoming = prefetcher.submit(self.batch, step + 1)
                yield *batch, len(self.order(step))

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Return this rank's part of a step's batch. MixUp and CutMix pair the global batch with itself in reverse."""
        chosen = self.order(step)
        draw_ids = _draw_ids(chosen, self.order.examples)
        rows = np.array_split(np.arange(len(chosen)), self.process.world_size)[self.process.rank]
        with torch.no_grad():
            images, labels = self._augmented(chosen[rows], draw_ids[rows], step)
            if not self.augmentation.mixes:
                return images, labels
            targets, partners = self._one_hot(labels), len(chosen) - 1 - rows
            if self.process.world_size == 1:
                other_images, other_targets = images.flip(0), targets.flip(0)
            else:
                other_images, labels = self._augmented(chosen[partners], draw_ids[partners], step)
                other_targets = self._one_hot(labels)
            alphas = self.augmentation.mixup_alpha, self.augmentation.cutmix_alpha
            mix = mixing.drawn(*alphas, self.size_px, self.data.seed, step)
            return mix.images(images, other_images), mix.targets(targets, other_targets)

    def _one_hot(self, labels: Tensor) -> Tensor:
        return F.one_hot(labels, self.classes).float()

    def _augmented(
        self, chosen: NDArray[np.int64], draw_ids: NDArray[np.int64], step: int
    ) -> tuple[Tensor, Tensor]:
        """Return normalised, cropped and flipped images with their labels."""
        images = self.data.normalise(self._cropped(chosen, draw_ids, step))
        if self.augmentation.erase:
            images = erase(images, self.augmentation.erase, self.data.seed, step, draw_ids)
        return images, self.labels[moved(chosen, self.labels.device)]

    def _cropped(self, chosen: NDArray[np.int64], draw_ids: NDArray[np.int64], step: int) -> Tensor:
        """Cropped and flipped images; crops are flipped where they are looked up, which costs nothing."""
        how = self.data.seed, step, draw_ids
        if self.recipe.crop == "none":
            whole = self._preprocessed(chosen)
            return augment.flip(whole, *how) if self.augmentation.flip else whole
        packed, which = self.resident, chosen
        if not isinstance(packed, PackedImages):
            packed = PackedImages(self._read_any_order(chosen), self.place)
            which = np.arange(len(chosen))
        boxes = self._boxes(packed.sizes[which], step, draw_ids)
        flips = augment.flips(*how) if self.augmentation.flip else None
        if self.by_pillow:
            change = self._change(step, draw_ids)
            cut = resized_crop.cut_all(packed.images(which), boxes, self.size_px, self.readers, flips, change)
            return moved(cut, self.labels.device).permute(0, 3, 1, 2).float()
        cut_first = self.augmentation.crop == "inception"
        return packed.resized(which, boxes, self.size_px, cut_first=cut_first, mirrored=flips)

    def _change(self, step: int, draw_ids: NDArray[np.int64]) -> resized_crop.Change | None:
        """What RandAugment does to each image of a batch, if the recipe has it."""
        if self.augmentation.rand_augment is None:
            return None
        how, fill = self.augmentation.rand_augment, rand_augment.fill_of(self.data.backbone.input.mean)
        return lambda image, row: how(
            image, fill, rand_augment.generator_of(self.data.seed, step, int(draw_ids[row]))
        )

    def _boxes(self, sizes: NDArray[np.int64], step: int, draw_ids: NDArray[np.int64]) -> NDArray[Any]:
        """Return crop boxes (B, 4) in pixels of the original images: top, left, height, width; fractional for random crops."""
        if self.augmentation.crop == "none":
            return np.column_stack([np.zeros_like(sizes), sizes])
        if self.augmentation.crop == "inception":
            return augment.inception_boxes(sizes, self.data.seed, step, draw_ids)
        if self.augmentation.crop in resized_crop.KINDS:
            return resized_crop.boxes(self.augmentation.crop, sizes, self.data.seed, step, draw_ids)
        resized = self.recipe.resize_px or self.size_px
        corners = augment.crop_corners(resized - self.size_px, self.data.seed, step, draw_ids)
        scale = sizes / resized
        return np.column_stack([corners * scale, self.size_px * scale])

    def _load_resident(self) -> PackedImages | Tensor | list[NDArray[np.uint8]] | None:
        """Return all images on the device, or None if they do not fit: then each batch is read when it is needed.

        Images that Pillow augments stay in the memory of the CPU.
        """
        if self.recipe.crop == "none":
            bytes_each = 12.0 * self.size_px**2
        else:
            sample = self._read_any_order(np.arange(min(len(self.labels), 16)))
            bytes_each = float(np.mean([image.nbytes for image in sample])) * CHANNELS / 3
        cuda = self.place.type == "cuda"
        total = torch.cuda.get_device_properties(self.data.device).total_memory if cuda else 0
        room = RESIDENT_SHARE * total if cuda else RESIDENT_BYTES
        if bytes_each * len(self.labels) > room:
            return None
        if self.recipe.crop == "none":
            return torch.cat([self.data.pixels(split, self.size_px) for split in self.splits])
        expected_pixels = int(1.1 * bytes_each / CHANNELS * len(self.labels))
        return PackedImages(self._read_ascending(np.arange(len(self.labels))), self.place, expected_pixels)

    def _preprocessed(self, chosen: NDArray[np.int64]) -> Tensor:
        """Return images by the job's own preprocessing, without augmentation."""
        if isinstance(self.resident, Tensor):
            return self.resident[moved(chosen, self.resident.device)]
        parts = [(rows, self.data.pixels(part, self.size_px)) for rows, part in self._parts(chosen)]
        order = np.argsort(np.concatenate([rows for rows, _ in parts]))
        return torch.cat([pixels for _, pixels in parts])[moved(order, self.labels.device)]

    def _parts(self, chosen: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], Split]]:
        """Yield the examples at these positions by split, with their rows in `chosen`."""
        split_of = np.searchsorted(self.ends, chosen, side="right")
        for i, split in enumerate(self.splits):
            rows = np.flatnonzero(split_of == i)
            if len(rows):
                yield rows, split.take(chosen[rows] - (self.ends[i] - len(split)))

    def _read_any_order(self, chosen: NDArray[np.int64]) -> list[NDArray[np.uint8]]:
        """Read original images (H, W, 3) at positions in any order."""
        order = np.argsort(chosen, kind="stable")
        found: list[Any] = [None] * len(chosen)
        for row, image in zip(order, self._read_ascending(chosen[order]), strict=True):
            found[row] = image
        return found

    def _read_ascending(self, chosen: NDArray[np.int64]) -> Iterator[NDArray[np.uint8]]:
        """Yield original images (H, W, 3) at ascending positions, decoded in several threads."""
        for _, part in self._parts(chosen):
            blocks = [
                part.indices[i : i + IMAGES_PER_READ].tolist() for i in range(0, len(part), IMAGES_PER_READ)
            ]
            yield from chain.from_iterable(
                self.readers.map(partial(part.source.read, fast_dct=not self.by_pillow), blocks)
            )


def augmentation_of(recipe: Recipe) -> augment.Augmentation:
    """What a recipe asks for."""
    return augment.Augmentation(
        recipe.crop, recipe.flip, recipe.mixup_alpha, recipe.cutmix_alpha,
        rand_augment.named(recipe.rand_augment) if recipe.rand_augment else None, recipe.erase,
    )  # fmt: skip


def _draw_ids(chosen: NDArray[np.int64], examples: int) -> NDArray[np.int64]:
    """Return the numbers (B,) that seed crops and flips: positions, plus `examples` for each earlier copy in the batch."""
    order = np.argsort(chosen, kind="stable")
    ranked = chosen[order]
    is_first = np.concatenate([[True], ranked[1:] != ranked[:-1]])
    firsts = np.maximum.accumulate(np.where(is_first, np.arange(len(ranked)), 0))
    repeats = np.empty_like(chosen)
    repeats[order] = np.arange(len(ranked)) - firsts
    return chosen + examples * repeats
