"""Make vitbench/backbones/network_costs.json: the cost of the catalog's networks at the image sizes of the suites.

Run it with torch on a GPU, real or pretended (docs/protocols.md#roofline): `python tests/making/network_costs.py`, minutes.
Nothing is timed: operations are counted as they are dispatched in a training step in bfloat16.
"""

import json
import sys
import warnings
from pathlib import Path

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
from vitbench.backbones.build import build  # noqa: E402
from vitbench.backbones.catalog import catalog  # noqa: E402
from vitbench.compute.compiled import convolutions  # noqa: E402
from vitbench.engine.components import load_all  # noqa: E402

SIZES_PX = (224, 384)
LARGE = 2e8  # parameters, above which tensors of 64 images are too large for some kernels
BIT_SIZES_PX = (128, 224, 384, 480)  # BiT-HyperRule's crops beside
PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "convolution", "linear", "scaled_dot_product")
VIEWS = (
    "view", "_unsafe_view", "t", "transpose", "permute", "expand", "detach", "unsqueeze", "squeeze", "select", "slice", "split",
    "alias", "as_strided", "reshape", "unbind", "chunk", "_reshape_alias", "split_with_sizes", "empty", "empty_like",
    "empty_strided", "new_empty_strided",
)  # fmt: skip


class Traffic(TorchDispatchMode):
    """Bytes read and written by operations that are neither matrix products nor views."""

    def __init__(self):
        super().__init__()
        self.count_bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        name = func._schema.name.partition("::")[2]
        if name not in VIEWS and not any(name.strip("_").startswith(product) for product in PRODUCTS):
            tensors = [leaf for leaf in tree_leaves((args, kwargs, found)) if isinstance(leaf, torch.Tensor)]
            self.count_bytes += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        return found


def _peak_bytes(network, images):
    """The memory that a training step takes beyond the weights."""
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    with torch.autocast("cuda", torch.bfloat16):
        network.features(images).float().sum().backward()
    for weight in network.parameters():
        weight.grad = None
    return torch.cuda.max_memory_allocated() - before


def _pass(network, images, *, train):
    """Traffic, FLOPs and FLOPs of attention of one pass."""
    traffic, flops = Traffic(), FlopCounterMode(display=False)
    with torch.set_grad_enabled(train), traffic, flops, torch.autocast("cuda", torch.bfloat16):
        features = network.features(images)
        if train:
            features.float().sum().backward()
    for weight in network.parameters():
        weight.grad = None
    counts = flops.get_flop_counts().get("Global", {})
    attention = sum(count for op, count in counts.items() if "attention" in str(op))
    return traffic.count_bytes, sum(counts.values()), attention


def cost_at(network):
    """By image what grows with the batch, and the traffic that does not."""
    size_px = network.input.size_px
    network = network.cuda()
    network.to(memory_format=torch.channels_last)

    def images(n):
        return torch.empty(n, 3, size_px, size_px, device="cuda").contiguous(
            memory_format=torch.channels_last
        )

    (one, flops, attention), (two, *_) = (_pass(network, images(n), train=False) for n in (1, 2))
    (first, *_), (second, *_) = (_pass(network, images(n), train=True) for n in (1, 2))
    few = 4 if network.params > LARGE else 32  # of fewer images, gradients are the peak
    low, high = (_peak_bytes(network, images(n)) for n in (few, 2 * few))
    return {
        "flops": flops,
        "attention_flops": attention,
        "forward_bytes": two - one,
        "step_bytes": second - first,
        "fixed_bytes": max(2 * first - second, 0),
        "activation_bytes": (high - low) // few,
    }


def main():
    warnings.simplefilter("ignore")
    load_all()
    lines = []
    for entry in (each for each in catalog() if each.spec.startswith("timm:")):
        shape = build(entry.spec, {"pretrained": False}, meta=True)
        known = {
            "params": shape.trainable().params,
            "feature_dim": shape.feature_dim,
            "size_px": shape.input.size_px,
            "convolutions": convolutions(shape.trainable()),
        }
        wanted = BIT_SIZES_PX if entry.family == "BiT" else SIZES_PX
        sizes, rounded = {}, []
        for size_px in sorted({shape.input.size_px, *wanted}):
            with torch.device("meta"):
                sized = shape.trainable().at_least(size_px)
            rounded += [size_px] if sized.input.size_px != size_px else []
            sizes[size_px] = cost_at(sized.to_empty(device="cuda"))
            del sized
            torch.cuda.empty_cache()
        lines.append(f"{json.dumps(entry.spec)}: {json.dumps({**known, 'rounded': rounded, 'sizes': sizes})}")
        print(entry.alias, {size: round(cost["flops"] / 1e9, 1) for size, cost in sizes.items()}, flush=True)
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    (ROOT / "vitbench" / "backbones" / "network_costs.json").write_text(text)
    print(len(text), "bytes", torch.cuda.get_device_name(0))


if __name__ == "__main__":
    main()
