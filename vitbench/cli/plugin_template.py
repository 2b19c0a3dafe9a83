"""The files that `vitbench new backbone NAME` writes."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from vitbench.core.errors import UsageError
from vitbench.core.files import write_atomically
from vitbench.core.registry import BACKBONES
from vitbench.engine.components import load_all

_MODULE = '''"""{name}: a backbone for vitbench. Check it: vitbench check {name} --plugin {file}"""

import torch
from torch import Tensor, nn

from vitbench import register_backbone
from vitbench.api import InputSpec, Provenance


@register_backbone("{name}")
class {class_name}(nn.Module):
    """Describe it in one line: `vitbench list backbones` shows this."""

    # Shown beside every score. weights: pretrained, untrained, none or unknown.
    provenance = Provenance(family="{name}", weights="untrained", pretrain_data="none")

    def __init__(self, width: int = 64):  # parameters are options in a suite: {{name: {name}, width: 128}}
        super().__init__()
        # What the weights were trained with: image size in pixels, and (x / 255 - mean) / std.
        self.input = InputSpec(size_px=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
        self.feature_dim = width
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.body = nn.Sequential(nn.Conv2d(3, width, 4, 4), nn.GELU(), nn.Conv2d(width, width, 2, 2))

    def features(self, images: Tensor) -> Tensor:
        """Features (B, D) of normalised images (B, 3, S, S): the input of a linear classifier."""
        return self.body(images).mean((2, 3))
'''

_TEST = '''"""pytest {test}"""

from pathlib import Path

import pytest

from vitbench import check_backbone, load_plugins

load_plugins([str(Path(__file__).with_name("{file}"))])


@pytest.mark.parametrize("finding", check_backbone("{name}"), ids=lambda finding: finding.item)
def test_conforms(finding):
    assert finding.ok is not False, finding.text
'''


def write_backbone(name: str, folder: Path) -> Path:
    """Write the module and its test, and return the path of the module.

    Raises:
        UsageError: the name is not a plain name or is taken, or a file exists already.
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,60}", name):
        raise UsageError(
            f"{name!r} cannot be a backbone's name: use letters, digits, - and _, starting with a letter"
        )
    stem = name.lower().replace("-", "_")
    module, test = folder / f"{stem}.py", folder / f"test_{stem}.py"
    for path in (module, test):
        if path.exists():
            raise UsageError(f"{path} exists already; nothing was written")
    load_all()
    if name in BACKBONES.specs() or importlib.util.find_spec(stem) is not None:
        raise UsageError(f"the name {name!r} is taken: choose another one")
    class_name = "".join(part.capitalize() for part in re.split(r"[-_]", name))
    write_atomically(module, _MODULE.format(name=name, file=module.name, class_name=class_name))
    write_atomically(test, _TEST.format(name=name, file=module.name, test=test.name))
    return module
