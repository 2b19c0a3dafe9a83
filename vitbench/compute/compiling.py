"""Where compiling a network pays: what it takes and saves, and from how much work on (docs/protocols.md#compiled-steps)."""

from __future__ import annotations

COMPILE_S = 24.0  # ViT-B/16 on an H200, from nothing
# A compiled training step of ViT-B/16 takes this much of the time of one that is not; of a forward pass it is assumed.
OF_EAGER_TIME = 0.82
# Of networks that are compiled: it embeds patches. Compiled, BiT-R50x1 at 480 px read illegal addresses on an H200.
MOST_CONVOLUTIONS = 1
STEPS_PAY_FROM_PIXELS = 400_000 * 224**2  # of all training images of a run
# A forward pass of ViT-B/16 takes 1/9,096 s an image of 35.13 GFLOP at 224 px on an H200.
PASS_PAYS_FROM_FLOPS = COMPILE_S / (1 - OF_EAGER_TIME) * 9_096 * 35.13e9


def steps_pay(images: int, size_px: int) -> bool:
    """Whether a training run of so many images is long enough."""
    return images * size_px**2 >= STEPS_PAY_FROM_PIXELS


def pass_pays(images: int, flops_per_image: int) -> bool:
    """Whether a pass over so many images is long enough."""
    return images * flops_per_image >= PASS_PAYS_FROM_FLOPS
