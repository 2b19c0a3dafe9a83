"""Suites that run in a second."""

TINY = """\
name: tiny
budgets: [2-shot, full]
seeds: [0, 1]
preprocess: squash
backbones: [{name: raw_pixels, size_px: 8}]
tasks: [digits]
protocols: [ridge_probe, {name: knn, budgets: [full]}]
"""
