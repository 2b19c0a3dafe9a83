"""One step of fine-tuning after another: the global batch in pieces that fit, clipped momentum SGD, an optional Polyak average.

Nothing here waits for the device: losses and norms stay on it until somebody reads them. Under torch.distributed every process
takes its share of each batch, and gradients are summed once a step (`exchange`), or by FSDP2 where one GPU is too small.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from vitbench.protocols.finetune import distributed, fsdp, micro_batch
from vitbench.protocols.recipes import Recipe

AGREE_EVERY = 5  # steps between two questions whether to keep the state or to stop


class Features(nn.Module):
    """A backbone's features as a module's forward, which wrappers of torch need."""

    def __init__(self, backbone: Any) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor) -> Tensor:
        """Features (B, D) of normalised images (B, 3, S, S)."""
        return cast("Tensor", self.backbone.features(images))


class Trainer:
    """A backbone and its zero-initialised head under one recipe; `step` by step, to and from a state that can be kept.

    `micro_batch` images go through at once, found at the first step; it is halved when memory runs out. Pieces change no result
    but its rounding, unless layers look at several images at once, as BatchNorm does: then they are what it sees.
    """

    def __init__(self, backbone: Any, num_classes: int, recipe: Recipe, *, dtype: str) -> None:
        weight = next(iter(backbone.parameters()))
        self.recipe, self.dtype, self.device = recipe, dtype, weight.device
        self.num_classes = num_classes
        self.micro_batch = 0
        self.backbone = backbone
        self.head = nn.Linear(backbone.feature_dim, num_classes, device=weight.device)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.whole = nn.Sequential(Features(backbone), self.head)
        self.replica, self.replicas = distributed.place()
        self.sharded = self.replicas > 1 and fsdp.is_too_big(
            self.whole, self.device, averaging=bool(recipe.averaging)
        )
        norms = [m for m in backbone.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        self.has_batch_norm = bool(norms)
        # Running statistics become the processes' mean at every step: whoever scores or keeps the model has the same.
        self.running = [kept for m in norms for kept in (m.running_mean, m.running_var) if kept is not None]
        distributed.same(self.whole.state_dict().values())
        self.model = fsdp.shard(self.whole) if self.sharded else self.whole
        self.weights = [weight for weight in self.model.parameters() if weight.requires_grad]
        fits = all(weight.is_floating_point() for weight in self.weights) and not self.sharded
        fused = fits and self.device.type in ("cpu", "cuda")
        self.optimiser = torch.optim.SGD(self.weights, lr=0.0, momentum=recipe.momentum, fused=fused)
        self.average = [weight.detach().clone() for weight in self.weights] if recipe.averaging else []
        self.steps_done = 0
        self.batch = recipe.batch_size
        self.losses: list[Tensor] = []
        self.norms: list[Tensor] = []

    def step(self, images: Tensor, targets: Tensor, whole: int | None = None) -> None:
        """One update on a batch of normalised images (B, 3, S, S), targets (B,) or (B, C).

        Processes that train together are given the global batch, or with `whole`, its size, each its own share of it.
        """
        rate = self.recipe.learning_rate(self.steps_done)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        if self.micro_batch == 0:
            self.micro_batch = distributed.least(micro_batch.micro_batch(self.model, images, self.dtype))
        if whole is None:
            whole = len(images)
            images, targets = distributed.share(images), distributed.share(targets)
        self.batch = whole
        self.losses.append(self._gradients(images, targets, whole))
        bound = math.inf if self.recipe.clip_norm is None else self.recipe.clip_norm
        self.norms.append(fsdp.full(nn.utils.clip_grad_norm_(self.weights, bound)))
        if self.recipe.momentum_dtype == "bfloat16":
            self._update_with_short_momentum(rate)
        else:
            self.optimiser.step()
        self._include_in_average()
        self.steps_done += 1

    def _gradients(self, images: Tensor, targets: Tensor, whole: int) -> Tensor:
        """Gradients of the mean loss over the global batch, and the loss.

        Raises:
            torch.OutOfMemoryError: not even one image fits; of a sharded model, whose processes meet in every layer: at once.
        """
        while True:
            self.optimiser.zero_grad(set_to_none=True)
            buffers = self.whole.buffers() if self.has_batch_norm else ()
            before = self._random(), [buffer.clone() for buffer in buffers]
            total = None
            try:
                total = self._accumulated(images, targets, whole)
            except torch.OutOfMemoryError:
                if self.sharded or (self.micro_batch == 1 and self.replicas == 1):
                    raise
            # All of them start over, or none: one that did so alone would leave the others waiting.
            fits = self.sharded or distributed.least(int(total is not None))
            if total is not None and fits:
                return self._together(total)
            self._take_back(*before)
            self._halve()

    def _halve(self) -> None:
        if self.micro_batch == 1:
            raise torch.OutOfMemoryError("not even one image fits on the device of one of the processes")
        self.micro_batch = max(min(self.micro_batch, self._share()) // 2, 1)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _together(self, total: Tensor) -> Tensor:
        """What all processes have, from what each has: gradients, the loss, running statistics."""
        if self.sharded:
            dist.all_reduce(total)
        elif self.replicas > 1:
            gradients = [weight.grad for weight in self.weights if weight.grad is not None]
            distributed.summed([total, *gradients, *self.running])
            for kept in self.running:
                kept.div_(self.replicas)
        return total

    def _share(self) -> int:
        """Images of a batch that this process sees, or one of the others."""
        return math.ceil(self.batch / self.replicas)

    def _pieces(self) -> int:
        """How many pieces a share goes through in: as many in every process, whose blocks' weights may come together then."""
        return max(math.ceil(self._share() / self.micro_batch), 1)

    @property
    def at_once(self) -> int:
        """Images that go through together."""
        return math.ceil(self._share() / self._pieces()) if self.micro_batch else 0

    def _random(self) -> dict[str, Any]:
        on_gpu = self.device.type == "cuda"
        return {
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state(self.device) if on_gpu else None,
        }

    def _take_back(self, random: dict[str, Any], buffers: list[Tensor]) -> None:
        """As if an attempt had not been made: dropout's stream, and running statistics."""
        torch.set_rng_state(random["random"].cpu())
        if random["random_cuda"] is not None:
            torch.cuda.set_rng_state(random["random_cuda"].cpu(), self.device)
        for buffer, kept in zip(self.whole.buffers() if buffers else (), buffers, strict=True):
            buffer.copy_(kept)

    def _accumulated(self, images: Tensor, targets: Tensor, whole: int) -> Tensor:
        total = torch.zeros((), device=self.device)
        count = self._pieces()
        for piece, wanted in zip(images.tensor_split(count), targets.tensor_split(count), strict=True):
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == "bfloat16"):
                logits = self.model(piece.contiguous(memory_format=torch.channels_last))
            loss = nn.functional.cross_entropy(logits.float(), wanted, reduction="sum") / whole
            (loss * self.replicas if self.sharded else loss).backward()  # FSDP takes the mean
            total += loss.detach()
        return total

    def _update_with_short_momentum(self, rate: float) -> None:
        """As optax with a bfloat16 accumulator: the decay is bfloat16 too, the sum float32 when used and short when kept."""
        decay = float(torch.tensor(self.recipe.momentum).bfloat16())
        for weight in self.weights:
            if weight.grad is None:
                continue
            state = self.optimiser.state[weight]
            kept = state.get("momentum_buffer")
            moved = weight.grad if kept is None else kept.float().mul_(decay).add_(weight.grad)
            state["momentum_buffer"] = moved.bfloat16()
            with torch.no_grad():
                weight.add_(moved, alpha=-rate)

    @torch.no_grad()
    def _include_in_average(self) -> None:
        """The average of the weights after each step, the initial ones left out (as Adam corrects its bias).

        Started from the initial weights, 0.9999 over 20,000 steps would keep 13 % of them, the zero head among them; the paper
        does not say which it does (facts/protocols.md 8.4, point 26).
        """
        if not self.average:
            return
        factor = cast("float", self.recipe.averaging)
        share = (1 - factor) / (1 - factor ** (self.steps_done + 1))
        torch._foreach_lerp_(self.average, list[Tensor](self.weights), share)

    @torch.no_grad()
    def finish(self) -> None:
        """Put the averaged weights in place, and all weights together."""
        for weight, mean in zip(self.weights, self.average, strict=False):
            weight.copy_(mean)
        self.average = []
        if self.sharded:
            fsdp.gather(self.model, self.whole)

    def read(self) -> tuple[list[float], list[float]]:
        """All losses and gradient norms so far: here the device is waited for."""
        if not self.losses:
            return [], []
        return torch.stack(self.losses).tolist(), torch.stack(self.norms).tolist()

    def agree(self, keep: bool, stop: bool) -> tuple[bool, bool]:
        """Whether the state is to be kept now, and whether to stop: processes that train together do both at the same step.

        They ask each other every few steps; those of a sharded model every step, whose steps take seconds.
        """
        if self.replicas == 1:
            return keep, stop
        if not (self.sharded or self.steps_done % AGREE_EVERY == 0 or self.steps_done == self.recipe.steps):
            return False, False
        wanted = 2 if stop else int(keep)
        agreed = 2 - distributed.least(2 - wanted)
        return agreed > 0, agreed == 2

    def state(self) -> dict[str, Any]:
        """All that the next step depends on, as tensors and plain values; every process of a sharded model must call this."""
        momentum = [self.optimiser.state[weight].get("momentum_buffer") for weight in self.weights]
        return {
            "steps_done": self.steps_done,
            "whole": {name: fsdp.kept(tensor) for name, tensor in self.model.state_dict().items()},
            "momentum": [None if buffer is None else fsdp.kept(buffer) for buffer in momentum],
            "average": [fsdp.kept(mean) for mean in self.average],
            "losses": torch.stack(self.losses) if self.losses else torch.empty(0),
            "norms": torch.stack(self.norms) if self.norms else torch.empty(0),
            "micro_batch": self.micro_batch,
            **self._random(),
        }

    @torch.no_grad()
    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a kept state."""
        self.steps_done = state["steps_done"]
        for name, tensor in self.model.state_dict().items():
            tensor.copy_(fsdp.like(state["whole"][name], tensor))
        for weight, buffer in zip(self.weights, state["momentum"], strict=True):
            if buffer is not None:
                self.optimiser.state[weight]["momentum_buffer"] = fsdp.like(buffer, weight)
        self.average = [fsdp.like(mean, w) for mean, w in zip(state["average"], self.weights, strict=False)]
        self.losses = list(state["losses"].to(self.device))
        self.norms = list(state["norms"].to(self.device))
        self.micro_batch = state["micro_batch"]
        self._take_back(state, [])
