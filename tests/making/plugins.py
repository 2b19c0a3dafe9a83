"""Plugins and suites that several tests run."""

REPLICATED = """\
name: replicated
backbones: [{name: small-cnn}]
tasks: [digits]
protocols:
  - {name: finetune, recipe: own, steps: 6, batch_size: 32, base_lr: 0.1, replicas: 2, budgets: [5-shot]}
  - {name: ridge_probe, budgets: [2-shot]}
"""
SMALL_CNN = """\
import torch
from torch import nn
from vitbench import register_backbone
from vitbench.api import InputSpec, Provenance

@register_backbone("small-cnn")
class SmallCnn(nn.Module):
    "Two convolutions."
    provenance = Provenance(family="CNN", weights="untrained", pretrain_data="none")
    input = InputSpec(size_px=8, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    feature_dim = 16

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3))
        for weight in self.body.parameters():
            nn.init.normal_(weight, std=0.1, generator=torch.Generator().manual_seed(0))

    def features(self, images):
        return self.body(images).mean((2, 3))
"""
