"""Whether a trained network is given what it was trained on: BatchNorm's running statistics against real images.

The thresholds were found on seven trained networks (docs/protocols.md#batchnorm-check), with two photographs that scikit-learn
ships. Pixels normalised otherwise, or in another range, are found; another padding in most networks; another epsilon or the
order of colours in none: their effect is smaller than that of what the photographs show.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitbench.api import Triple
from vitbench.backbones.models.wrapper import BuiltBackbone
from vitbench.backbones.quick_check import Finding
from vitbench.core.errors import UsageError

ITEM = "fits its BatchNorm"
SIZE_PX = 64
LAYERS = 3  # the first: later ones depend on what the photographs show
SUSPECT, WRONG = (
    0.12,
    0.16,
)  # of the gap: at most 0.11 where all is right, at least 0.167 where pixels are wrong
PADDING_GAIN = 0.05  # in the cosine between features of an image and of its mirror image
SQUARES = ((427, 1), (320, 3))  # side in pixels of the photographs' regions, and regions in a row
USUAL: dict[str, tuple[Triple, Triple]] = {
    "mean and std 0.5": ((0.5,) * 3, (0.5,) * 3),
    "ImageNet's mean and std": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "pixels in [0, 1]": ((0.0,) * 3, (1.0,) * 3),
}


def batch_norm_finding(backbone: BuiltBackbone) -> Finding | None:
    """Compare statistics on photographs with BatchNorm's own; None for networks without BatchNorm, or untrained ones."""
    norms = [m for m in backbone.modules() if isinstance(m, nn.BatchNorm2d) and m.running_mean is not None]
    if not norms or backbone.provenance.weights in ("untrained", "none"):
        return None
    try:
        small = backbone.at_resolution(SIZE_PX).eval()
    except UsageError:
        small = backbone
    photographs = regions(small.input.size_px)
    gap = batch_norm_gap(small, normalised(photographs, small.input.mean, small.input.std))
    if gap >= SUSPECT:
        best, other = min(
            (batch_norm_gap(small, normalised(photographs, *how)), name) for name, how in USUAL.items()
        )
        better = f"; {best:.2f} with {other}: set `mean` and `std`" if best < gap / 2 else ""
        text = (
            f"real images are {gap:.2f} away from its running statistics, at most {SUSPECT} is usual{better}"
        )
        return Finding(ITEM, False if gap >= WRONG or better else None, text)
    return _padding(small, photographs) or Finding(
        ITEM, True, f"real images are {gap:.2f} away from its running statistics"
    )


def _padding(backbone: BuiltBackbone, photographs: Tensor) -> Finding | None:
    """A finding if the network is clearly more even-handed, left and right, with the other padding of its strided layers."""
    images = normalised(photographs, backbone.input.mean, backbone.input.std)
    own = _evenness(backbone, images)
    other = _evenness(with_other_padding(backbone), images)
    if other - own <= PADDING_GAIN:
        return None
    same = any(map(_is_same_padded, backbone.modules()))
    name = "PyTorch's padding (without `tf_`)" if same else "TensorFlow's padding (`timm:tf_…`)"
    text = (
        f"mirror images agree to {own:.2f}, with {name} to {other:.2f}: were the weights trained with that?"
    )
    return Finding(ITEM, False, text)


@torch.no_grad()
def batch_norm_gap(backbone: BuiltBackbone, images: Tensor) -> float:
    """How far images (B, 3, S, S) are from those that the first BatchNorm layers were trained on.

    Per channel the divergence KL(N(m, v) || N(r, s)) of its mean and variance from the running ones; the median over channels,
    then over layers.
    """
    gaps: list[float] = []

    def compare(layer: nn.Module, given: tuple[Tensor, ...]) -> None:
        if len(gaps) < LAYERS and isinstance(layer, nn.BatchNorm2d):
            mean, variance = layer.running_mean, layer.running_var
            if mean is None or variance is None:
                return
            alive = variance > 1e-6 * variance.median()
            v, m = (
                found[alive]
                for found in torch.var_mean(given[0].double().transpose(0, 1).flatten(1), 1, correction=0)
            )
            r, s = mean[alive].double(), variance[alive].double()
            ratio = v.clamp(min=1e-12) / s
            gaps.append(float((ratio + (m - r).square() / s - 1 - ratio.log()).median() / 2))

    hooks = [
        m.register_forward_pre_hook(compare) for m in backbone.modules() if isinstance(m, nn.BatchNorm2d)
    ]
    try:
        backbone.features(images)
    finally:
        for hook in hooks:
            hook.remove()
    return float(torch.tensor(gaps or [0.0]).median())


@torch.no_grad()
def _evenness(backbone: BuiltBackbone, images: Tensor) -> float:
    """The mean cosine between features of images and of their mirror images."""
    return float(F.cosine_similarity(backbone.features(images), backbone.features(images.flip(3))).mean())


def with_other_padding(backbone: BuiltBackbone) -> BuiltBackbone:
    """A copy whose strided convolutions pad as TensorFlow does, or if they do, as PyTorch does."""
    other = copy.deepcopy(backbone)
    same = any(map(_is_same_padded, other.modules()))
    for name, module in list(other.named_modules()):
        strided = isinstance(module, nn.Conv2d) and module.stride[0] > 1 and module.kernel_size[0] > 1
        if isinstance(module, nn.Conv2d) and strided and _is_same_padded(module) == same:
            parent, _, own = name.rpartition(".")
            setattr(other.get_submodule(parent), own, _repadded(module, same=not same))
    return other


def _is_same_padded(module: nn.Module) -> bool:
    """Whether it is timm's convolution with TensorFlow's padding."""
    return type(module).__name__ == "Conv2dSame"


def _repadded(layer: nn.Conv2d, *, same: bool) -> nn.Conv2d:
    from timm.layers.conv2d_same import Conv2dSame  # imports all of timm: four seconds

    kernel: tuple[int, int] = (layer.kernel_size[0], layer.kernel_size[1])
    padding = 0 if same else (kernel[0] // 2, kernel[1] // 2)
    made = (Conv2dSame if same else nn.Conv2d)(
        layer.in_channels, layer.out_channels, kernel, (layer.stride[0], layer.stride[1]), padding,
        (layer.dilation[0], layer.dilation[1]), layer.groups, layer.bias is not None,
    )  # fmt: skip
    made.load_state_dict(layer.state_dict())
    return made.to(layer.weight.device)


def normalised(pixels: Tensor, mean: Triple, std: Triple) -> Tensor:
    """Pixels in [0, 1], (B, 3, S, S), normalised."""
    return (pixels - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]


def regions(size_px: int) -> Tensor:
    """Square regions of two photographs, (8, 3, S, S), pixels in [0, 1]; every other one mirrored."""
    found = [_resized(region, size_px) for region in _squares()]
    return torch.stack([region.flip(2) if i % 2 else region for i, region in enumerate(found)])


def _squares() -> Iterator[Tensor]:
    from sklearn.datasets import load_sample_images

    for photograph in load_sample_images().images:
        image = torch.from_numpy(photograph.copy()).permute(2, 0, 1).float() / 255
        for side, columns in SQUARES:
            top = (image.shape[1] - side) // 2
            for column in range(columns):
                spare = image.shape[2] - side
                left = spare // 2 if columns == 1 else round(spare * column / (columns - 1))
                yield image[:, top : top + side, left : left + side]


def _resized(image: Tensor, size_px: int) -> Tensor:
    return F.interpolate(
        image[None], (size_px, size_px), mode="bilinear", antialias=True, align_corners=False
    )[0]
