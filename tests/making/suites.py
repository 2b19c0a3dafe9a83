"""Suites that run in a second or a few."""

TINY = """\
name: tiny
budgets: [2-shot, full]
seeds: [0, 1]
preprocess: squash
backbones: [{name: raw_pixels, size_px: 8}]
tasks: [digits]
protocols: [ridge_probe, {name: knn, budgets: [full]}]
"""


# Fine-tunes the backbone of plugins.SMALL.
TUNED = """
name: tuned
preprocess: squash
budgets: [full]
backbones: [small]
tasks: [digits]
protocols:
  - {{name: finetune, recipe: own, steps: {steps}, warmup_steps: 2, base_lr: {rates}, batch_size: 32, clip_norm: {clip}}}
"""


# Trains heads on frozen miniatures: DINOv2's and MAE's linear ones, on what a network without class token has, and CAPI's.
PROBED = """
name: probed
preprocess: dinov2_knn
resolution_px: 32
budgets: [full]
backbones: [mini-vit-1]
tasks: [digits]
protocols:
  - {name: linear_probe, steps: 12, batch_size: 32, inputs: [mean, features]}
  - {name: linear_probe, recipe: mae, epochs: 2, batch_size: 256, inputs: features, label: mae}
  - {name: attentive_probe, steps: 12, batch_size: 32}
limit: 300
"""


def tuned(suite_file, **how):
    """The path of TUNED with these steps, rates and norm."""
    return suite_file(TUNED.format(**{"steps": 12, "rates": [0.1], "clip": "none", **how}))
