"""What an image processor of transformers does to pixels, as an InputSpec; what cannot be written so is refused by name."""

from __future__ import annotations

from typing import Any

from vitbench.api import InputSpec, Triple
from vitbench.backbones.models.hub import triple
from vitbench.core.errors import Problem, UsageError

# Kinds of models whose input is not one image (B, 3, S, S): tokens of colours, video clips, byte arrays.
_OTHER_INPUTS = ("imagegpt", "perceiver", "vivit", "videomae")
# Steps of processors that a suite's `preprocess` has no counterpart for.
_STEPS = (
    "do_flip_channel_order",
    "do_color_quantize",
    "do_grayscale",
    "do_align_long_axis",
    "do_thumbnail",
    "do_pad",
)


def input_of(processor: Any, config: Any, source: str, size_px: int | None) -> InputSpec:
    """The image size, mean and std of a processor; the suite's `preprocess` decides how images are resized and cropped.

    Raises:
        UsageError: the model's input is no RGB image, or the processor takes a step that vitbench does not.
    """
    refuse_other_inputs(processor, config, source)
    for step in _STEPS:
        if getattr(processor, step, None):
            raise UsageError(f"{source}: its image processor has {step}, which vitbench does not do")
    if not (getattr(processor, "do_resize", True) or getattr(processor, "do_center_crop", False)):
        raise UsageError(
            f"{source}: its image processor has do_resize: false, so its image size is not known"
        )
    divisor = int(getattr(processor, "size_divisor", None) or 1)
    native_px = -(-_size(processor, source) // divisor) * divisor
    mean, std = _mean_and_std(processor)
    return InputSpec(size_px or native_px, mean, std)


def refuse_other_inputs(processor: Any, config: Any, source: str) -> None:
    """Refuse models that take no RGB images (B, 3, S, S).

    Raises:
        UsageError: this is one.
    """
    kind = str(config.model_type)
    if kind == "timm_wrapper":
        raise UsageError(Problem(f"{source} is a model of timm", next_step="use timm:hf-hub:NAME"))
    if kind in _OTHER_INPUTS or hasattr(processor, "max_num_patches"):
        raise UsageError(f"{source}: {kind} takes no images of shape (B, 3, S, S)")
    channels = getattr(config, "num_channels", 3)
    if channels != 3:
        raise UsageError(f"{source}: num_channels is {channels}, and vitbench's images have 3")


def _size(processor: Any, source: str) -> int:
    crops_last = getattr(processor, "do_center_crop", False) and "Perceiver" not in type(processor).__name__
    field = "crop_size" if crops_last else "size"
    size = dict(getattr(processor, field) or {})
    edges = {value for value in size.values() if value}
    if len(edges) != 1:
        raise UsageError(
            f"{source}: {field} of its image processor is {size}, and vitbench's images are square"
        )
    return int(edges.pop())


def _mean_and_std(processor: Any) -> tuple[Triple, Triple]:
    """Mean and std of pixels / 255, from the processor's rescaling, offset and normalisation together."""
    rescales = getattr(processor, "do_rescale", True)
    scale = 255 * processor.rescale_factor if rescales else 255.0
    offset = 1.0 if rescales and getattr(processor, "rescale_offset", False) else 0.0
    mean, std = (0.0,) * 3, (1.0,) * 3
    if getattr(processor, "do_normalize", True):
        mean, std = _three(processor.image_mean), _three(processor.image_std)
    twice = (
        std if getattr(processor, "include_top", False) else (1.0,) * 3
    )  # EfficientNet's divides by std again
    return (
        triple((m + offset) / scale for m in mean),
        triple(s * again / scale for s, again in zip(std, twice, strict=True)),
    )


def _three(values: Any) -> Triple:
    """One number stands for all channels."""
    return triple([values] * 3 if isinstance(values, int | float) else values)
