"""Attention weights of a ViT, their rollout and mean distances, and its embeddings (ViT paper, Fig. 6, 7 and D.7)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitbench.core.errors import UsageError


def vit_of(backbone: nn.Module) -> Any:
    """Return the transformer inside a backbone.

    Raises:
        UsageError: no module has blocks, position embeddings and a patch embedding.
    """
    for module in backbone.modules():
        if (
            hasattr(module, "blocks")
            and getattr(module, "pos_embed", None) is not None
            and hasattr(module, "patch_embed")
        ):
            return module
    name = getattr(backbone, "name", type(backbone).__name__)
    raise UsageError(f"inspect works for ViTs only: {name} has no attention blocks over patches")


@contextlib.contextmanager
def _recorded(vit: Any) -> Iterator[list[Tensor]]:
    """Within the context, collect the attention weights (B, H, T, T) of each block whenever the ViT runs."""
    gathered: list[Tensor] = []

    def record(attention: Any, inputs: tuple[Tensor, ...], _output: Tensor) -> None:
        x = inputs[0]
        batch, tokens, width = x.shape
        heads = attention.num_heads
        query, key, _ = (
            attention.qkv(x).reshape(batch, tokens, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
        )
        query, key = attention.q_norm(query), attention.k_norm(key)
        gathered.append(((query * attention.scale) @ key.transpose(-2, -1)).softmax(-1))

    hooks = [block.attn.register_forward_hook(record) for block in vit.blocks]
    try:
        yield gathered
    finally:
        for hook in hooks:
            hook.remove()


def attention_weights(backbone: Any, images: Tensor) -> list[Tensor]:
    """Return each block's attention weights (B, H, T, T) for normalised images (B, 3, S, S); rows sum to one.

    Raises:
        UsageError: the backbone is not a ViT.
    """
    vit = vit_of(backbone)
    with torch.no_grad(), _recorded(vit) as gathered:
        backbone.features(images)
    return list(gathered)


def rollout(weights: list[Tensor], prefix: int, grid: tuple[int, int]) -> Tensor:
    """Return the attention rollout from class token to patches, (B, h, w) with maximum 1 (Abnar and Zuidema 2020; paper D.7).

    Heads are averaged, the residual connection is added as an identity matrix of equal weight, and blocks are multiplied.
    `prefix` is the number of tokens before the patches.
    """
    tokens = weights[0].shape[-1]
    identity = torch.eye(tokens, device=weights[0].device, dtype=weights[0].dtype)
    total = identity.expand(len(weights[0]), -1, -1)
    for weight in weights:
        mixed = weight.mean(1) + identity
        total = (mixed / mixed.sum(-1, keepdim=True)) @ total
    seen = total[:, 0, prefix:].reshape(-1, *grid)
    return seen / seen.amax((1, 2), keepdim=True)


def mean_distances(weights: list[Tensor], prefix: int, grid: tuple[int, int], patch_px: int) -> Tensor:
    """Return mean attention distances in pixels, (L, H): between patches, weighted by attention (paper Fig. 7)."""
    rows, columns = torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
    positions = torch.stack([rows.flatten(), columns.flatten()], 1).float() * patch_px
    distances = torch.cdist(positions, positions).to(weights[0].device)
    found = []
    for weight in weights:
        between = weight[:, :, prefix:, prefix:]
        between = between / between.sum(-1, keepdim=True)
        found.append((between * distances).sum(-1).mean((0, 2)))
    return torch.stack(found).cpu()


def embedding_filters(vit: Any, count: int = 28) -> Tensor:
    """Return the first principal components of the patch embedding, (count, 3, P, P) in [0, 1] (paper Fig. 7, left)."""
    kernel = vit.patch_embed.proj.weight.detach().float().cpu()
    flat = kernel.flatten(1)
    components: Tensor = torch.linalg.svd(flat - flat.mean(0), full_matrices=False).Vh[:count]
    low, high = components.amin(1, keepdim=True), components.amax(1, keepdim=True)
    scaled: Tensor = (components - low) / (high - low).clamp(min=1e-12)
    return scaled.reshape(-1, *kernel.shape[1:])


def position_similarity(vit: Any, grid: tuple[int, int]) -> Tensor:
    """Return the cosine similarity of all pairs of position embeddings, (h, w, h, w) (paper Fig. 7, centre)."""
    embedding = vit.pos_embed.detach().float().cpu()[0]
    patches = F.normalize(embedding[len(embedding) - grid[0] * grid[1] :], dim=1)
    return (patches @ patches.T).reshape(*grid, *grid)
