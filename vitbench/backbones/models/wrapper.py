"""BuiltBackbone, the uniform wrapper of every built backbone, from vitbench or a plugin."""

from __future__ import annotations

import hashlib
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from vitbench.api import InputSpec, Provenance
from vitbench.core.errors import UnfilledError, UsageError

T = TypeVar("T")


class BuiltBackbone(nn.Module):
    """A registered module whose declarations have been checked. Final: do not subclass."""

    def __init__(self, module: nn.Module, name: str, labels: dict[str, str]) -> None:
        super().__init__()
        self.module = module
        self.name = name
        self.input: InputSpec = _declared(module, name, "input", InputSpec)
        self.feature_dim: int = _declared(module, name, "feature_dim", int)
        if not callable(getattr(module, "features", None)):
            raise UsageError(f"backbone {name!r} has no method features(images (B, 3, S, S)) -> (B, D)")
        provenance = getattr(module, "provenance", None)
        if not isinstance(provenance, Provenance):
            provenance = Provenance(
                family=labels.get("family", "unknown"),
                pretrain_data=labels.get("pretrain_data", "unknown"),
                source=labels.get("source", ""),
            )
        self.provenance = provenance
        self._labels = labels

    def features(self, images: Tensor) -> Tensor:
        """Features (B, D) of normalised images (B, 3, S, S)."""
        return cast("Tensor", self.module.features(images))  # type: ignore[operator]

    def forward(self, images: Tensor) -> Tensor:
        """Features (B, D), as `features`: torch's hooks and wrappers need `forward`."""
        return self.features(images)

    def at_resolution(self, size_px: int) -> BuiltBackbone:
        """The same weights at another image size.

        Raises:
            UsageError: the architecture works at one image size only.
        """
        if size_px == self.input.size_px:
            return self
        resized = getattr(self.module, "at_resolution", None)
        if resized is None:
            raise UsageError(
                f"backbone {self.name!r} takes images of {self.input.size_px} px only: "
                "it has no at_resolution(size_px)"
            )
        return BuiltBackbone(resized(size_px), self.name, self._labels)

    def at_least(self, size_px: int) -> BuiltBackbone:
        """The same weights at `size_px` or the next multiple of the patch size: 518 px for 512 px and patches of 14 px.

        Raises:
            UsageError: the architecture works at one image size only.
        """
        try:
            return self.at_resolution(size_px)
        except UnfilledError as error:
            return self.at_resolution(error.next_px)

    @property
    def params(self) -> int:
        """Number of parameters."""
        return sum(parameter.numel() for parameter in self.parameters())

    def writes(self) -> int:
        """Number of in-place writes to weights and buffers, by torch's version counters."""
        return sum(tensor._version for tensor in (*self.parameters(), *self.buffers()))

    def weights_digest(self) -> str:
        """SHA-256 of the names, types, shapes and values of all weights and buffers."""
        total = hashlib.sha256()
        for name, tensor in sorted(self.module.state_dict().items()):
            total.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
            flat = tensor.detach().cpu().contiguous().reshape(-1)
            total.update(flat.view(torch.uint8).numpy().data)
        return total.hexdigest()


def _declared(module: nn.Module, name: str, attribute: str, kind: type[T]) -> T:
    value = getattr(module, attribute, None)
    if not isinstance(value, kind):
        raise UsageError(
            f"backbone {name!r}: {type(module).__name__}.{attribute} must be {_article(kind)}, "
            f"not {value!r}; see vitbench.api.BackboneModule"
        )
    return value


def _article(kind: type) -> str:
    return f"an {kind.__name__}" if kind.__name__[0] in "AEIOUaeiou" else f"a {kind.__name__}"
