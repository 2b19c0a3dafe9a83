"""Heads on a frozen backbone, trained on augmented images: all heads of a grid at once, over one forward pass per step.

`linear_probe` and `attentive_probe` differ in what a head reads (`linear`, `attention`); recipes, optimisers and training are
the same.
"""
