"""One fine-tuning recipe: optimiser, schedule, augmentation, regularisation, and which parameters are trained."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

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


Tuning = Annotated[str, AfterValidator(_known_tuning)]


@dataclass(frozen=True)
class Recipe:
    """Momentum SGD or AdamW; `cosine` or `staircase` after linear warm-up (docs/protocols.md#optimiser-details).

    The fields are the options of `finetune`, with the ranges of their annotations. The staircase schedule divides the learning
    rate by ten after each of `decay_steps`, from the next step on, as in BiT's released code. `clip_norm` bounds the global
    gradient norm. `momentum` is AdamW's first beta, too. `weight_decay` is coupled to the gradient in SGD and decoupled in
    AdamW; vectors are not decayed without `decay_vectors`. `layer_decay` multiplies the rate once for each layer above a
    weight. `dropout` of activations, `attention_dropout` and `stochastic_depth` (growing linearly from the first block to this
    in the last) are probabilities. `label_smoothing` spreads that part of the target over all classes equally.

    With `averaging`, the result is a Polyak average of the weights with this factor. A `size_px` of None keeps the backbone's
    image size; `crop: random` crops squares of `size_px` from images resized to `resize_px`. With `train_only`, validation
    data are used for selection only, not for training.

    `epochs` takes the place of `steps`, which then follow from the number of examples (`for_examples`), and `warmup_epochs` of
    `warmup_steps`; the rate then changes once an epoch, `rate_lag` epochs late. The last batch of an epoch is shorter (`keep`)
    or left out (`drop`). `cosine-whole` counts its cosine from the first step, not from the end of warm-up, and goes from
    `warmup_lr` up and down to `min_lr`, as timm's.

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
    optimiser: Literal["sgd", "adamw"] = "sgd"
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    weight_decay: NotNegative = 0.0
    decay_vectors: bool = False
    layer_decay: Annotated[float, Field(gt=0, le=1)] | None = None
    clip_norm: Rate | None = 1.0
    decay: Literal["cosine", "cosine-whole", "staircase"] = "cosine"
    decay_steps: tuple[Positive, ...] = ()
    warmup_lr: NotNegative = 0.0
    min_lr: NotNegative = 0.0
    momentum_dtype: Literal["float32", "bfloat16"] = "float32"
    averaging: Annotated[float, Field(gt=0, lt=1)] | None = None
    size_px: Positive | None = None
    resize_px: Positive | None = None
    crop: Literal["none", "random", "inception", "resized", "resized-once"] = "none"
    flip: bool = False
    mixup_alpha: NotNegative = 0.0
    label_smoothing: Probability = 0.0
    dropout: Probability = 0.0
    attention_dropout: Probability = 0.0
    stochastic_depth: Probability = 0.0
    train_only: bool = False
    head_init: Literal["zeros", "torch", "vpt"] = "zeros"
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
        if self.warmup_steps > self.steps:
            raise ValueError(f"warmup_steps {self.warmup_steps} exceeds steps {self.steps}")
        if self.epochs and self.warmup_epochs > self.epochs:
            raise ValueError(f"warmup_epochs {self.warmup_epochs} exceeds epochs {self.epochs}")
        if not self.epochs and (self.last_batch != "span" or self.rate_lag or self.warmup_epochs):
            raise ValueError("last_batch, rate_lag and warmup_epochs need epochs")
        if self.decay == "staircase" and not self.decay_steps:
            raise ValueError("decay: staircase needs decay_steps")
        if self.decay != "cosine-whole" and (self.warmup_lr or self.min_lr):
            raise ValueError("warmup_lr and min_lr need decay: cosine-whole")
        if self.momentum_dtype == "bfloat16" and (self.optimiser != "sgd" or self.weight_decay):
            raise ValueError("momentum_dtype: bfloat16 needs optimiser: sgd without weight_decay")
        if self.crop == "random" and self.resize_px is None:
            raise ValueError("crop: random needs resize_px, the image size before the crop")
        if self.crop == "random" and (self.size_px or 0) > (self.resize_px or 0):
            raise ValueError(
                f"crop: random cannot cut size_px {self.size_px} from resize_px {self.resize_px}"
            )

    def for_examples(self, examples: int) -> Recipe:
        """The recipe with the steps that its epochs take over so many examples; itself where it counts steps."""
        if not self.epochs:
            return self
        each = examples / self.batch_size
        steps = max(math.floor(each) if self.last_batch == "drop" else math.ceil(each), 1)
        return replace(self, steps=steps * self.epochs, warmup_steps=steps * self.warmup_epochs)

    def learning_rate(self, step: int) -> float:
        """Return the learning rate at a step, counted from 0; with warm-up it starts at 0 (VJ:vit_jax/utils.py:57-96)."""
        now, warmup, whole = step, self.warmup_steps, self.steps
        if self.epochs:  # the same in epochs
            now = max(step // (self.steps // self.epochs) - self.rate_lag, 0)
            warmup, whole = self.warmup_epochs, self.epochs
        warm = min(1.0, now / warmup) if warmup else 1.0
        if self.decay == "staircase":
            # No decay during warm-up (BT:bit_hyperrule.py:54-62).
            falls = sum(step > boundary for boundary in self.decay_steps) if warm == 1.0 else 0
            return self.base_lr * warm * 0.1**falls
        if self.decay == "cosine-whole":  # timm's CosineLRScheduler
            if now < warmup:
                return self.warmup_lr + warm * (self.base_lr - self.warmup_lr)
            return self.min_lr + 0.5 * (self.base_lr - self.min_lr) * (1 + math.cos(math.pi * now / whole))
        progress = min(max((now - warmup) / max(whole - warmup, 1), 0.0), 1.0)
        return self.base_lr * 0.5 * (1.0 + math.cos(math.pi * progress)) * warm

    def fields(self) -> dict[str, Any]:
        """Return all fields as JSON-compatible values, for the record."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}
