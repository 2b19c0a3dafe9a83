"""Wrapper of open_clip image encoders, and imports of optional libraries."""

from __future__ import annotations

import functools
import importlib
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from vitbench.api import InputSpec, Provenance, Triple
from vitbench.backbones.models.hub_access import LONGEST_REASON, hub_trouble, reason
from vitbench.backbones.models.unfilled import loaded
from vitbench.backbones.models.weights import shortened
from vitbench.core.errors import DataMissingError, Problem, UsageError, nearest
from vitbench.core.record import LoadReport
from vitbench.core.seeding import seeded


def optional_library(name: str, package: str) -> Any:
    """Import an optional library.

    Raises:
        UsageError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UsageError(
            Problem(f"this backbone needs {package}", next_step=f"pip install {package}")
        ) from error


def triple(values: Any) -> Triple:
    """Three numbers of a mean or standard deviation."""
    first, second, third = map(float, values)
    return first, second, third


class OpenClipBackbone(nn.Module):
    """An image encoder of open_clip; features are its projected embedding."""

    def __init__(self, model: nn.Module, spec: InputSpec, provenance: Provenance) -> None:
        super().__init__()
        self.model = model
        self.input = spec
        self.provenance = provenance
        with torch.no_grad():
            self.feature_dim = int(self.features(torch.zeros(1, 3, spec.size_px, spec.size_px)).shape[1])

    def features(self, images: Tensor) -> Tensor:
        """Image embeddings (B, D) of images (B, 3, S, S), not normalised to unit length."""
        return cast("Tensor", self.model(images))

    @classmethod
    def build(cls, name: str, weights: str, init_seed: int) -> OpenClipBackbone:
        """Load an image encoder, with pre-trained or seeded random weights.

        Raises:
            UsageError: open_clip is not installed, or has no such model, or a file does not fit it.
            DataMissingError: the weights cannot be downloaded.
        """
        library = optional_library("open_clip", "open_clip_torch")
        if name not in library.list_models():
            command = 'python -c "import open_clip; print(open_clip.list_models())"'
            close = nearest(name, library.list_models())
            raise UsageError(Problem(f"unknown open_clip model {name!r}", nearest=close, next_step=command))
        is_file = bool(weights) and Path(weights).is_file()
        if weights and not is_file:
            hub_trouble()
        options = {"pretrained": weights or None, **_activation(library, name, weights)}
        make = functools.partial(library.create_model, name, **options)
        try:
            with seeded(init_seed, "initial weights"):
                whole: Any = loaded(make) if weights else make()
        except Exception as error:
            if is_file:
                what = f"{weights} for open_clip:{name}: {' '.join(str(error).split())[:LONGEST_REASON]}"
                step = "check that the checkpoint was saved from this architecture"
                raise UsageError(Problem(what, next_step=step)) from error
            raise DataMissingError(
                Problem(
                    f"open_clip:{name} [{weights}] cannot be loaded: {reason(error)}",
                    next_step="connect to the internet once to download it, or give `weights: FILE`",
                )
            ) from error
        encoder, quick = whole.visual, bool(_activation(library, name, weights).get("quick_gelu"))
        size = encoder.image_size
        size_px = int(size[0] if isinstance(size, tuple | list) else size)
        spec = InputSpec(size_px, triple(encoder.image_mean), triple(encoder.image_std))
        state: Literal["pretrained", "untrained"] = "pretrained" if weights else "untrained"
        unknown = (
            "the file does not say how pixels were normalised: open_clip's mean and std of the model are used"
        )
        provenance = Provenance(
            "CLIP",
            state,
            "unknown" if weights else "none",
            f"open_clip:{name} [{weights}]",
            load=_report(whole) if weights else None,
            trained_on=() if library.get_pretrained_cfg(name, weights) else None,
            pixels_unknown=unknown if is_file else "",
            notes=("QuickGELU, as the weights were trained",) if quick and "quickgelu" not in name else (),
        )
        return cls(encoder.eval(), spec, provenance)


def _report(whole: nn.Module) -> LoadReport:
    """What became of the checkpoint's tensors: open_clip loads all of them or none; the text encoder is left out."""
    names = list(whole.state_dict())
    others = [name for name in names if not name.startswith("visual.")]
    return LoadReport(in_file=len(names), used=len(names) - len(others), left_out=shortened(others))


def _activation(library: Any, name: str, weights: str) -> dict[str, bool]:
    """The activation that the weights were trained with; open_clip warns of another one and goes on."""
    known = library.get_pretrained_cfg(name, weights) if weights else None
    return {"quick_gelu": bool(known.get("quick_gelu", False))} if known else {}
