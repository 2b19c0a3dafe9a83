"""Made-up published rows about a tiny network of timm's, and its weights in the hub's cache of this machine."""

import contextlib
import json

import pytest
import timm
import torch
import yaml
from safetensors.torch import save_model

import vitbench.published as published
from vitbench.report import published_match

TINY = "test_vit.r160_in1k"
COMMIT = "0" * 40
SOURCE = {"paper": "Made up", "arxiv": "0000.00000", "table": "Table 1"}


def row(row_id, protocol, results, **facts):
    """A row as published.yaml has it."""
    return {
        "id": row_id, "model": "Tiny", "pretrain_data": "ImageNet-1k", "protocol": protocol, "resolution": 32,
        "timm": TINY, "source": SOURCE, "results": results, "compute": {}, "verified": "primary-text", **facts,
    }  # fmt: skip


@contextlib.contextmanager
def published_instead(folder, rows, datasets=("digits", "photo_regions")):
    """Within the block these are the published rows, and `datasets` are data sets that tasks of these names measure."""
    file = folder / "made-up.yaml"
    file.write_text(yaml.safe_dump(rows))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(published, "FILE", file)
        patch.setattr(published, "VIT_PAPER", (*published.VIT_PAPER, *datasets))
        _forget()
        yield
    _forget()


def _forget():
    published.published.cache_clear()
    published_match._stated_elsewhere.cache_clear()
    published_match._by_weights.cache_clear()


def cache_weights(monkeypatch, folder):
    """Put seeded weights of the tiny network where the hub's library keeps downloads, and let it look there only."""
    snapshot = folder / "hub" / f"models--timm--{TINY}" / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    refs = snapshot.parents[1] / "refs"
    refs.mkdir()
    (refs / "main").write_text(COMMIT)
    torch.manual_seed(0)
    save_model(timm.create_model("test_vit", pretrained=False), str(snapshot / "model.safetensors"))
    about = {"architecture": "test_vit", "num_classes": 1000, "pretrained_cfg": {"tag": "r160_in1k"}}
    (snapshot / "config.json").write_text(json.dumps(about))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
