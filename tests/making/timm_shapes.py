"""Make vitbench/backbones/timm_shapes.json: `python tests/making/timm_shapes.py`, some minutes, after timm has changed."""

import json
import sys
import warnings
from collections import defaultdict
from pathlib import Path

import timm
import torch

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
from vitbench.backbones.fitting import signature  # noqa: E402


def shapes_of(name):
    """The names and shapes of an architecture's weights, without making them."""
    with torch.device("meta"):
        model = timm.create_model(name, pretrained=False)
    return {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}


def main():
    warnings.simplefilter("ignore")
    found, failed = defaultdict(list), []
    for name in timm.list_models(exclude_filters="test_*"):
        try:
            found[signature(shapes_of(name))].append(name)
        except Exception as error:  # noqa: BLE001  some need other packages
            failed.append(f"{name}: {error}")
    lines = [f"{json.dumps(key)}: {json.dumps(names)}" for key, names in sorted(found.items()) if key]
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    (ROOT / "vitbench" / "backbones" / "timm_shapes.json").write_text(text)
    print(f"{sum(map(len, found.values()))} architectures, {len(found)} signatures, {len(text)} bytes")
    print("\n".join(failed))


if __name__ == "__main__":
    main()
