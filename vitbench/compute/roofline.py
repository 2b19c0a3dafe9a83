"""How long a card takes for a pass of a network, from what the pass computes and moves, without the card. Without torch.

Products and attention run at a fraction of the peak and everything else at the speed of memory, one after the other, as eager
PyTorch does it (docs/protocols.md#roofline).
"""

from __future__ import annotations

from dataclasses import dataclass

from vitbench.compute.core_days import Device, devices
from vitbench.core.errors import Problem, UsageError, nearest

# Fractions of the peaks that PyTorch's kernels reach (docs/protocols.md#roofline).
OF_PEAK_PRODUCTS, OF_PEAK_ATTENTION, OF_PEAK_MEMORY, OF_PEAK_FLOAT32 = 0.66, 0.40, 0.80, 0.75
OF_PEAK_UNCOUNTED = 0.30  # of a network whose traffic was not counted
OF_MEMORY = 0.92  # what training may take of a card's memory
BACKWARD = 2  # FLOPs of a backward pass, in forward passes
ALIASES = {"h100": "h100-sxm", "h200": "h200-sxm", "v100": "v100-sxm2"}


@dataclass(frozen=True)
class PassCounts:
    """What a pass costs by image: FLOPs forward, those of attention, and bytes that all but products move, in bfloat16.

    `step_bytes` is of forward and backward, `fixed_bytes` of a step of any batch, `activation_bytes` what is kept between.
    """

    flops: int
    attention_flops: int
    forward_bytes: int
    step_bytes: int
    fixed_bytes: int
    activation_bytes: int


def card(name: str) -> Device:
    """A card by its name in hardware.yaml, with or without hyphens, or a short one such as h100.

    Raises:
        UsageError: there is none, or its memory is not known.
    """
    known = {device.id: device for device in devices() if device.memory_gb_s}
    plain = {each.replace("-", ""): each for each in known}
    wanted = name.strip().lower().replace("nvidia", "").replace(" ", "").replace("_", "-")
    found = known.get(ALIASES.get(wanted, wanted)) or known.get(plain.get(wanted.replace("-", ""), ""))
    if found is None:
        what = f"unknown card {name!r}; known are {', '.join(known)}"
        raise UsageError(Problem(what, nearest=nearest(wanted, [*ALIASES, *known])))
    return found


def card_of(device_name: str) -> Device | None:
    """The card that a driver calls so, such as `NVIDIA H100 80GB HBM3`; None if it is not known."""
    words = device_name.lower().replace("nvidia", "").replace("geforce", "").replace("tesla", "").split()
    for end in range(len(words), 0, -1):
        for joined in ("-".join(words[:end]), "".join(words[:end])):
            try:
                return card(joined)
            except UsageError:
                continue
    return None


def forward_s(counts: PassCounts, device: Device, dtype: str) -> float:
    """Seconds of a forward pass by image."""
    return _seconds(counts, device, dtype, 1, counts.forward_bytes)


def step_s(counts: PassCounts, device: Device, dtype: str, passes: float = 1.0 + BACKWARD) -> float:
    """Seconds of a training step by image of a large batch, with the FLOPs of so many forward passes.

    Where few parameters are trained, passes are fewer; what is moved is counted whole, if there is a backward pass at all.
    """
    return _seconds(counts, device, dtype, passes, counts.step_bytes if passes > 1 else counts.forward_bytes)


def _seconds(counts: PassCounts, device: Device, dtype: str, passes: float, moved_bytes: int) -> float:
    memory = moved_bytes / ((device.memory_gb_s or 0) * 1e9 * OF_PEAK_MEMORY)
    products, attention = counts.flops - counts.attention_flops, counts.attention_flops
    if dtype == "float32":  # TF32 is off; activations are twice as wide, but no casts are made
        return passes * counts.flops / ((device.float32_tflops or 0) * 1e12 * OF_PEAK_FLOAT32) + memory
    peak = device.peak_tflops * 1e12
    return passes * (products / (peak * OF_PEAK_PRODUCTS) + attention / (peak * OF_PEAK_ATTENTION)) + memory


def uncounted_flops_per_s(device: Device, dtype: str) -> float:
    """The speed assumed of a network of which only FLOPs are known."""
    if dtype == "float32":
        return (device.float32_tflops or 0) * 1e12 * OF_PEAK_FLOAT32 * OF_PEAK_UNCOUNTED
    return device.peak_tflops * 1e12 * OF_PEAK_UNCOUNTED


def images_at_once(counts: PassCounts, params: int, device: Device) -> int:
    """How many images of a step fit into a card's memory with weights, gradients and momentum; 0 if not one does."""
    free = (device.memory_gb or 0) * 1e9 * OF_MEMORY - 3 * 4 * params
    fits = int(free // counts.activation_bytes) if counts.activation_bytes else 0
    return 1 << (fits.bit_length() - 1) if fits > 0 else 0
