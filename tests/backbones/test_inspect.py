"""`vitbench inspect`: attention, distances and embeddings against a plain recomputation, and the page."""

import re

import numpy as np
import pytest
import torch
from PIL import Image

from tests.making.command import vitbench
from vitbench.backbones.models.attention import (
    attention_weights,
    embedding_filters,
    mean_distances,
    position_similarity,
    rollout,
)
from vitbench.core.registry import BACKBONES

OPTIONS = {"pretrained": False, "size_px": 32, "patch_px": 8, "init_seed": 1}
GRID = (4, 4)


@pytest.fixture(scope="module")
def vit():
    return BACKBONES.make("timm:vit_tiny_patch16_224", OPTIONS)[1].eval()


@pytest.fixture(scope="module")
def images():
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_attention_weights_reproduce_the_models_output(vit, images):
    weights = attention_weights(vit, images)
    assert len(weights) == 12
    assert weights[0].shape == (2, 3, 17, 17)
    assert torch.allclose(weights[5].sum(-1), torch.ones(2, 3, 17), atol=1e-5)
    block = vit.model.blocks[0]
    tokens = block.norm1(vit.model._pos_embed(vit.model.patch_embed(images)))
    value = block.attn.qkv(tokens).reshape(2, 17, 3, 3, 64).permute(2, 0, 3, 1, 4)[2]
    mixed = block.attn.proj((weights[0] @ value).transpose(1, 2).reshape(2, 17, 192))
    assert torch.allclose(mixed, block.attn(tokens), atol=1e-5)


def test_rollout_is_the_product_of_averaged_blocks():
    rng = np.random.default_rng(0)
    raw = rng.random((3, 1, 2, 17, 17))
    weights = raw / raw.sum(-1, keepdims=True)
    total = np.eye(17)
    for block in weights[:, 0]:
        total = (0.5 * block.mean(0) + 0.5 * np.eye(17)) @ total
    wanted = total[0, 1:].reshape(4, 4) / total[0, 1:].max()
    found = rollout([torch.from_numpy(block) for block in weights], 1, GRID)
    assert np.allclose(found[0], wanted)


def test_distances_are_weighted_means_over_patches():
    nearest = torch.eye(17)[None, None]
    even = torch.full((1, 1, 17, 17), 1 / 17)
    places = np.stack(np.meshgrid(range(4), range(4), indexing="ij"), -1).reshape(-1, 2) * 8.0
    apart = np.linalg.norm(places[:, None] - places[None], axis=-1).mean()
    found = mean_distances([nearest, even], 1, GRID, 8)
    assert found[0, 0] == 0
    assert float(found[1, 0]) == pytest.approx(apart, rel=1e-5)


def test_filters_and_position_similarity(vit):
    filters = embedding_filters(vit.model, 5)
    assert filters.shape == (5, 3, 8, 8)
    assert float(filters.min()) == 0
    assert float(filters.max()) == 1
    similarity = position_similarity(vit.model, GRID)
    assert similarity.shape == (4, 4, 4, 4)
    assert torch.allclose(similarity.reshape(16, 16).diagonal(), torch.ones(16), atol=1e-5)
    assert torch.allclose(similarity.reshape(16, 16), similarity.reshape(16, 16).T, atol=1e-6)


def test_the_page_shows_given_images_and_is_self_contained(tmp_path):
    Image.new("RGB", (40, 30), (200, 30, 90)).save(tmp_path / "<b>.png")
    sets = [f"{name}={value}" for name, value in OPTIONS.items()]
    arguments = [part for one in sets for part in ("--set", one)]
    done = vitbench(
        "inspect", "timm:vit_tiny_patch16_224", tmp_path / "<b>.png", *arguments, "-o", tmp_path / "page.html"
    )
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "page.html").read_text()
    assert page.count("data:image/png;base64,") == 2 + 28 + 1
    assert "&lt;b&gt;.png" in page
    assert not re.search(r"(?:src|href)=.https?:", page)
    assert "12 blocks, 4 x 4 patches" in page


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["timm:resnet10t", "--set", "pretrained=false"], 2, "inspect works for ViTs only"),
        (
            ["timm:vit_tiny_patch16_224", "nowhere.jpg", "--set", "pretrained=false"],
            3,
            "nowhere.jpg does not exist",
        ),
        (["timm:vit_tiny_patch16_224", "--set", "size=3"], 2, "option size"),
        (["vit-b16-i2k"], 2, "vit-b16-i21k"),
    ],
)
def test_mistakes_are_reported(arguments, code, message):
    done = vitbench("inspect", *arguments)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr
