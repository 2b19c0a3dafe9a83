"""One fine-tuning recipe: optimiser, schedule, augmentation, regularisation, and which parameters are trained."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from vitbench.core.entry import Added
from vitbench.data import rand_augment

Positive = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Probability = Annotated[float, Field(ge=0, lt=1)]

# Methods of Hugging Face's peft that add parameters to layers (docs/protocols.md#parameter-efficient-tuning).
PEFT_METHODS = ("lora", "dora", "loha", "lokr", "oft", "hra", "ia3", "delora", "ln_tuning")
PROMPT_METHODS = ("vpt-shallow", "vpt-deep")
TUNINGS = ("all", "head", "bias", "last-N", *PROMPT_METHODS, *PEFT_METHODS)
GRID = ("base_lr", "weight_decay", "prompt_tokens")  # several values make a grid


def _known_tuning(name: str) -> str:
    if name in TUNINGS[:3] + TUNINGS[4:] or re.fullmatch(r"last-[1-9]\d*", name):
        return name
    raise ValueError(f"unknown {name!r}: one of {', '.join(TUNINGS)}, where N is a number of blocks")


def _known_rand_augment(name: str) -> str:
    rand_augment.named(name)
    return name


Tuning = Annotated[str, AfterValidator(_known_tuning)]
RandAugmentName = Annotated[str, AfterValidator(_known_rand_augment)]


@dataclass(frozen=True)
class Recipe:
    """Momentum SGD or AdamW; `cosine` or `staircase` after linear warm-up (docs/protocols.md#optimiser-details).

    The fields are the options of `finetune`, with the ranges of their annotations. The staircase schedule divides the learning
    rate by ten after each of `decay_steps`, from the next step on, as in BiT's released code. `clip_norm` bounds the global
    gradient norm. `momentum` is AdamW's first beta, too. `weight_decay` is coupled to the gradient in SGD and decoupled in
    AdamW; vectors are not decayed without `decay_vectors`. `layer_decay` multiplies the rate once for each layer above a
    weight; layers, and what else is not decayed, are as timm says of the network, or as MAE and BEiT have them, with
    `layer_groups: blocks` (docs/protocols.md#mae-and-beit-recipes). `dropout` of activations, `attention_dropout` and
    `stochastic_depth` (growing linearly from the first block to this in the last) are probabilities. `label_smoothing` spreads
    that part of the target over all classes equally.

    With `averaging`, the result is a Polyak average of the weights with this factor. A `size_px` of None keeps the backbone's
    image size; `crop: random` crops squares of `size_px` from images resized to `resize_px`; `random_resized` is timm's and
    torchvision's random resized crop, which `rand_augment` (timm's RandAugment) follows. `erase` is the probability of random
    erasing. Where both `mixup_alpha` and `cutmix_alpha` are positive, one is drawn for each batch. With `train_only`,
    validation data are used for selection only, not for training.

    `epochs` takes the place of `steps`, which then follow from the number of examples (`for_examples`), and `warmup_epochs` of
    `warmup_steps`; the rate then changes once an epoch, `rate_lag` epochs late, or at every step, with `rate_every: step`. The
    last batch of an epoch is shorter (`keep`) or left out (`drop`). The cosine goes down to `min_lr`. `cosine-whole` counts its
    cosine from the first step, not from the end of warm-up, and warms up from `warmup_lr`, as timm's. Warm-up is complete in
    the step `after` it, or in its `last`.

    Features are pooled as the `backbone` does, or a new LayerNorm is put behind the mean of the `patches`.

    `tune` says which parameters are trained beside the head: `all`, `head` (none), `bias`, the `last-N` blocks, those of a
    method of peft, with `rank`, `alpha` (None: the rank) and `targets` (endings of layers' names; none: the projections of
    attention to queries, keys and values), or `prompt_tokens` learnt tokens before the first block (`vpt-shallow`) or each
    (`vpt-deep`). `tune_dropout` acts in front of what is added. What is frozen runs as when it is tested, with
    `frozen_mode: train` as in training.

    Raises:
        ValueError: the fields are inconsistent.
    """

    steps: Positive
    warmup_steps: Annotated[int, Field(ge=0)]
    base_lr: Rate
    batch_size: Positive = 512
    epochs: Positive | None = None
    warmup_epochs: Annotated[int, Field(ge=0)] = 0
    last_batch: Literal["span", "keep", "drop"] = "span"
    rate_lag: Annotated[int, Field(ge=0)] = 0
    rate_every: Annotated[Literal["epoch", "step"], Added()] = "epoch"
    optimiser: Literal["sgd", "adamw"] = "sgd"
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    weight_decay: NotNegative = 0.0
    decay_vectors: bool = False
    layer_decay: Annotated[float, Field(gt=0, le=1)] | None = None
    layer_groups: Annotated[Literal["timm", "blocks"], Added()] = "timm"
    clip_norm: Rate | None = 1.0
    decay: Literal["cosine", "cosine-whole", "staircase"] = "cosine"
    decay_steps: tuple[Positive, ...] = ()
    warmup_lr: NotNegative = 0.0
    warmup_reaches: Annotated[Literal["after", "last"], Added()] = "after"
    min_lr: NotNegative = 0.0
    momentum_dtype: Literal["float32", "bfloat16"] = "float32"
    averaging: Annotated[float, Field(gt=0, lt=1)] | None = None
    size_px: Positive | None = None
    resize_px: Positive | None = None
    crop: Literal["none", "random", "inception", "random_resized", "random_resized_once"] = "none"
    flip: bool = False
    rand_augment: Annotated[RandAugmentName | None, Added()] = None
    erase: Annotated[Probability, Added()] = 0.0
    mixup_alpha: NotNegative = 0.0
    cutmix_alpha: Annotated[NotNegative, Added()] = 0.0
    label_smoothing: Probability = 0.0
    dropout: Probability = 0.0
    attention_dropout: Probability = 0.0
    stochastic_depth: Probability = 0.0
    train_only: bool = False
    pool: Annotated[Literal["backbone", "patches"], Added()] = "backbone"
    head_init: Literal["zeros", "torch", "vpt", "mae", "deit"] = "zeros"
    tune: Tuning = "all"
    rank: Positive = 8
    alpha: Rate | None = None
    targets: tuple[str, ...] = ()
    prompt_tokens: Positive = 10
    tune_dropout: Probability = 0.0
    frozen_mode: Literal["eval", "train"] = "eval"

    def __post_init__(self) -> None:
        """Check that the fields are consistent."""
        _known_tuning(self.tune)
        self._check_epochs()
        self._check_schedule()
        self._check_images()
        if self.momentum_dtype == "bfloat16" and (self.optimiser != "sgd" or self.weight_decay):
            raise ValueError("momentum_dtype: bfloat16 needs optimiser: sgd without weight_decay")

    def _check_epochs(self) -> None:
        if self.warmup_steps > self.steps:
            raise ValueError(f"warmup_steps {self.warmup_steps} exceeds steps {self.steps}")
        if self.epochs and self.warmup_epochs > self.epochs:
            raise ValueError(f"warmup_epochs {self.warmup_epochs} exceeds epochs {self.epochs}")
        if not self.epochs and (self.last_batch != "span" or self.rate_lag or self.warmup_epochs):
            raise ValueError("last_batch, rate_lag and warmup_epochs need epochs")
        if self.rate_every == "step" and self.rate_lag:
            raise ValueError("rate_lag counts epochs: it needs rate_every: epoch")

    def _check_schedule(self) -> None:
        if self.decay == "staircase" and not self.decay_steps:
            raise ValueError("decay: staircase needs decay_steps")
        if self.decay == "staircase" and (self.min_lr or self.warmup_reaches == "last"):
            raise ValueError("min_lr and warmup_reaches: last need decay: cosine or cosine-whole")
        if self.decay != "cosine-whole" and self.warmup_lr:
            raise ValueError("warmup_lr needs decay: cosine-whole")

    def _check_images(self) -> None:
        if self.crop == "random" and self.resize_px is None:
            raise ValueError("crop: random needs resize_px, the image size before the crop")
        if self.crop == "random" and (self.size_px or 0) > (self.resize_px or 0):
            raise ValueError(
                f"crop: random cannot cut size_px {self.size_px} from resize_px {self.resize_px}"
            )
        if self.rand_augment and not self.crop.startswith("random_resized"):
            raise ValueError("rand_augment needs crop: random_resized")
        if self.rand_augment:
            rand_augment.named(self.rand_augment)

    def for_examples(self, examples: int) -> Recipe:
        """The recipe with the steps that its epochs take over so many examples; itself where it counts steps."""
        if not self.epochs:
            return self
        each = examples / self.batch_size
        steps = max(math.floor(each) if self.last_batch == "drop" else math.ceil(each), 1)
        return replace(self, steps=steps * self.epochs, warmup_steps=steps * self.warmup_epochs)

    def images(self, examples: int) -> int:
        """How many images all steps pass, with so many examples to train on."""
        if not self.epochs or self.last_batch == "span":
            return self.steps * self.batch_size
        whole = examples // self.batch_size * self.batch_size
        return self.epochs * (examples if self.last_batch == "keep" else whole or examples)

    def learning_rate(self, step: int) -> float:
        """Return the learning rate at a step, counted from 0; with warm-up it starts at 0 (VJ:vit_jax/utils.py:57-96)."""
        now, warmup, whole = step, self.warmup_steps, self.steps
        if self.epochs and self.rate_every == "epoch":  # the same in epochs
            now = max(step // (self.steps // self.epochs) - self.rate_lag, 0)
            warmup, whole = self.warmup_epochs, self.epochs
        before_full = max(warmup - (self.warmup_reaches == "last"), 1)  # BEIT:beit/utils.py:391, linspace
        warm = min(1.0, now / before_full) if warmup else 1.0
        if self.decay == "staircase":
            # No decay during warm-up (BT:bit_hyperrule.py:54-62).
            falls = sum(step > boundary for boundary in self.decay_steps) if warm == 1.0 else 0
            return self.base_lr * warm * 0.1**falls
        if now < warmup:
            return self.warmup_lr + warm * (self.base_lr - self.warmup_lr)
        if self.decay == "cosine-whole":  # timm's CosineLRScheduler counts from the first step
            angle = math.pi * now / whole
        else:
            angle = math.pi * min((now - warmup) / max(whole - warmup, 1), 1.0)
        return self.min_lr + (self.base_lr - self.min_lr) * 0.5 * (1.0 + math.cos(angle))

    def fields(self) -> dict[str, Any]:
        """Return all fields as JSON-compatible values, for the record."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}
