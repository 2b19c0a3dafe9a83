"""The optimisers of recipes: momentum SGD and AdamW, weight decay and layer-wise learning rates, and their state."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vitbench.core.errors import UsageError
from vitbench.protocols.finetune import fsdp
from vitbench.protocols.finetune.blocks import blocks_of
from vitbench.protocols.recipes import Recipe

ADAMW_EPS = 1e-8  # AdamW's and torch's default (arXiv 1711.05101)
HEAD = "vitbench_head"
HEAD_BIAS = "1.bias"  # of the features and the head in a row
# What MAE and BEiT do not decay although it is no vector, by the names of timm, transformers, open_clip and torchvision.
NOT_DECAYED = frozenset(
    {"cls_token", "class_token", "class_embedding", "pos_embed", "pos_embedding", "position_embeddings",
     "positional_embedding"}
)  # fmt: skip
MOMENTS = {"sgd": 1, "adamw": 2}  # tensors of a weight's size that the optimiser keeps


class SGDWithBFloat16Momentum(torch.optim.Optimizer):
    """Momentum SGD as optax has it with a bfloat16 accumulator: decay in bfloat16, sum in float32, stored as bfloat16."""

    def __init__(self, groups: Sequence[dict[str, Any]], momentum: float) -> None:
        super().__init__(groups, {"lr": 0.0})
        self.momentum = float(torch.tensor(momentum).bfloat16())

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update all weights that have a gradient."""
        del closure
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                buffer = self.state[weight].get("momentum_buffer")
                update = (
                    weight.grad if buffer is None else buffer.float().mul_(self.momentum).add_(weight.grad)
                )
                self.state[weight]["momentum_buffer"] = update.bfloat16()
                weight.add_(update, alpha=-group["lr"])


def build_optimiser(model: nn.Module, recipe: Recipe, *, fused: bool) -> torch.optim.Optimizer:
    """The recipe's optimiser of a network with its head, with a rate of zero; each group's `lr_scale` multiplies the rate.

    Raises:
        UsageError: `layer_decay` is asked for, and the network does not say which layer its weights belong to.
    """
    groups = parameter_groups(model, recipe)
    if recipe.optimiser == "adamw":
        betas = (recipe.momentum, recipe.beta2)
        return torch.optim.AdamW(groups, lr=0.0, betas=betas, eps=ADAMW_EPS, weight_decay=0.0, fused=fused)
    if recipe.momentum_dtype == "bfloat16":
        return SGDWithBFloat16Momentum(groups, recipe.momentum)
    return torch.optim.SGD(groups, lr=0.0, momentum=recipe.momentum, weight_decay=0.0, fused=fused)


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of the next step."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group["lr_scale"]


def parameter_groups(model: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """Weights that share `lr_scale` and `weight_decay`, in the order of the network.

    Biases, norms and other vectors are not decayed, nor what the network excludes (`no_weight_decay`, position embeddings),
    as in timm; with `decay_vectors` only the head's bias is not, as in VPT (VPT:src/solver/optimizer.py). With `layer_decay`, a
    weight's rate is multiplied by it once for each layer above (arXiv 2003.10555; the head is the last layer). With
    `layer_groups: blocks`, layers are those of MAE and BEiT (`_layers_by_block`), and of matrices only position embeddings and
    the class token are not decayed: BEiT decays its tables of relative positions, which timm does not.
    """
    weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    by_block = recipe.layer_groups == "blocks"
    scales: dict[str, float] = {}
    if recipe.layer_decay:
        layers = _layers_by_block(model) if by_block else _layers_of_timm(model, weights)
        last = max(layers.values())
        scales = {name: recipe.layer_decay ** (last - layers[name]) for name in weights}
    exempt: set[str] = set()
    if recipe.weight_decay:
        exempt = _tokens_and_positions(weights) if by_block else _never_decayed(model)
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for name, weight in weights.items():
        is_vector = weight.ndim <= 1 or name.endswith(".bias")
        is_spared = name == HEAD_BIAS or (not recipe.decay_vectors and (is_vector or name in exempt))
        decay = 0.0 if is_spared else recipe.weight_decay
        groups.setdefault((scales.get(name, 1.0), decay), []).append(weight)
    return [
        {"params": members, "lr_scale": scale, "weight_decay": decay}
        for (scale, decay), members in groups.items()
    ]


def _layers_by_block(model: nn.Module) -> dict[str, int]:
    """The layer of each weight: 0 in front of the blocks, one for each block, and the last for what follows, as the head.

    As in `get_layer_id_for_vit` (MAE:util/lr_decay.py:64-78) and `get_num_layer_for_vit` (BEIT:beit/optim_factory.py:33-43), on
    their networks; timm's has the norm behind the blocks in the last block's layer.
    """
    container, blocks = blocks_of(model)
    numbers = {child: number for number, (child, _) in enumerate(blocks.named_children(), 1)}
    last, before = len(blocks) + 1, True
    layers = {}
    for name, _ in model.named_parameters():
        inside = name.startswith(f"{container}.")
        before = before and not inside
        child = name.removeprefix(f"{container}.").partition(".")[0]
        layers[name] = numbers[child] if inside else 0 if before else last
    return layers


def _layers_of_timm(model: nn.Module, names: Iterable[str]) -> dict[str, int]:
    prefix, network = _with_method(model, "group_matcher")
    if network is None:
        raise UsageError(
            "layer_decay needs a network that says which layer its weights belong to (`group_matcher`, as "
            "timm's have); leave layer_decay out for this backbone"
        )
    from timm.models._manipulate import group_with_matcher

    # Our head belongs to the layer of all that the pattern does not mention: a norm after pooling, the network's classifier.
    own = [*network.named_parameters(), (HEAD, None)]
    layers: dict[str, int] = group_with_matcher(iter(own), network.group_matcher(coarse=False), reverse=True)
    return {name: layers.get(name.removeprefix(prefix), layers[HEAD]) for name in names}


def _tokens_and_positions(names: Iterable[str]) -> set[str]:
    return {name for name in names if name.rpartition(".")[2] in NOT_DECAYED}


def _never_decayed(model: nn.Module) -> set[str]:
    prefix, network = _with_method(model, "no_weight_decay")
    return {f"{prefix}{name}" for name in network.no_weight_decay()} if network is not None else set()


def _with_method(model: nn.Module, method: str) -> tuple[str, Any]:
    """The outermost module with a method, and the prefix of its weights' names."""
    for name, module in model.named_modules():
        if callable(getattr(module, method, None)):
            return f"{name}." if name else "", module
    return "", None


def state_for_checkpoint(optimiser: torch.optim.Optimizer, weights: Sequence[Tensor]) -> list[dict[str, Any]]:
    """The state of each weight; every rank must call this if sharded."""
    return [
        {name: fsdp.for_checkpoint(tensor) for name, tensor in optimiser.state[weight].items()}
        for weight in weights
    ]


def restore_state(
    optimiser: torch.optim.Optimizer, weights: Sequence[Tensor], saved: Sequence[dict[str, Any]]
) -> None:
    """Continue from `state_for_checkpoint`."""
    fused = any(group.get("fused") for group in optimiser.param_groups)
    for weight, state in zip(weights, saved, strict=True):
        for name, tensor in state.items():
            if name == "step":  # a counter: torch keeps it on the device for fused updates only
                optimiser.state[weight][name] = tensor.to(weight.device) if fused else tensor.cpu()
            else:
                optimiser.state[weight][name] = fsdp.distribute_like(tensor, weight)
