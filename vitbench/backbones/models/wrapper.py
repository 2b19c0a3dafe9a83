"""BuiltBackbone, the uniform wrapper of every built backbone, from vitbench or a plugin."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from vitbench.api import EvaluationTransform, InputSpec, Provenance
from vitbench.core.errors import Problem, UnfilledError, UsageError, nearest
from vitbench.core.own_classifier import OwnClassifier
from vitbench.core.registry import TASKS, StatedFacts
from vitbench.core.tokens import NoTokensError, Tokens

T = TypeVar("T")


class BuiltBackbone(nn.Module):
    """A registered module whose declarations have been checked. Final: do not subclass."""

    def __init__(
        self, module: nn.Module, name: str, labels: dict[str, str], stated: StatedFacts | None = None
    ) -> None:
        super().__init__()
        self.module = module
        self.name = name
        self.input: InputSpec = _declared(module, name, "input", InputSpec)
        self.feature_dim: int = _declared(module, name, "feature_dim", int)
        if not callable(getattr(module, "features", None)):
            raise UsageError(f"backbone {name!r} has no method features(images (B, 3, S, S)) -> (B, D)")
        self.evaluation: EvaluationTransform | None = None
        if getattr(module, "evaluation", None) is not None:
            self.evaluation = _declared(module, name, "evaluation", EvaluationTransform)
        provenance = getattr(module, "provenance", None)
        if not isinstance(provenance, Provenance):
            provenance = Provenance(
                family=labels.get("family", "unknown"),
                pretrain_data=labels.get("pretrain_data", "unknown"),
                source=labels.get("source", ""),
            )
        self.provenance = _with_stated(provenance, stated)
        self._labels, self._stated = labels, stated

    def features(self, images: Tensor) -> Tensor:
        """Features (B, D) of normalised images (B, 3, S, S)."""
        return cast("Tensor", self.module.features(images))  # type: ignore[operator]

    def forward(self, images: Tensor) -> Tensor:
        """Features (B, D), as `features`: torch's hooks and wrappers need `forward`."""
        return self.features(images)

    def tokens(self, images: Tensor) -> Tensor:
        """All tokens (B, T, D) after the final norm, of normalised images (B, 3, S, S): class token, registers, patches.

        Raises:
            UsageError: the backbone offers neither `tokens` nor `last_blocks`.
        """
        (last,) = self.last_blocks(images, 1)
        first = () if last.class_token is None else (last.class_token[:, None],)
        return torch.cat((*first, last.registers, last.patches), dim=1)

    def last_blocks(self, images: Tensor, count: int) -> tuple[Tokens, ...]:
        """The tokens of the last `count` blocks, each after the final norm, of normalised images (B, 3, S, S).

        Of a backbone that offers `tokens` alone, they are the last block's, and all of them count as patches.

        Raises:
            UsageError: the backbone does not offer them, has fewer blocks, or gives another shape.
        """
        if (own := self._method("last_blocks")) is not None:
            found = cast("tuple[Tokens, ...]", own(images, count))
            if len(found) != count:
                raise UsageError(f"backbone {self.name!r}: last_blocks gave {len(found)} blocks, not {count}")
            self._refuse_other_shapes("last_blocks", images, *(block.patches for block in found))
            return found
        if count == 1 and (plain := self._method("tokens")) is not None:
            tokens = cast("Tensor", plain(images))
            self._refuse_other_shapes("tokens", images, tokens)
            return (Tokens(None, tokens[:, :0], tokens),)
        what = f"backbone {self.name!r} does not offer {'its tokens' if count == 1 else f'tokens of {count} blocks'}"
        step = "use `inputs: features`, or give it a method last_blocks (vitbench.api.BackboneModule)"
        raise NoTokensError(Problem(what, next_step=step))

    def _method(self, name: str) -> Callable[..., object] | None:
        """A method that the module offers; None if it has none, or a layer of that name."""
        found = getattr(self.module, name, None)
        return found if callable(found) and not isinstance(found, nn.Module) else None

    def _refuse_other_shapes(self, method: str, images: Tensor, *tokens: Tensor) -> None:
        for each in tokens:
            if each.ndim != 3 or len(each) != len(images):
                what = f"backbone {self.name!r}: {method} gave tokens of shape {tuple(each.shape)} for {len(images)} images"
                raise UsageError(Problem(what, next_step="return (B, T, D): see vitbench.api.BackboneModule"))

    def around(self, module: nn.Module) -> BuiltBackbone:
        """Another module of the same weights as a backbone, under the same name and with the same facts."""
        return BuiltBackbone(module, self.name, self._labels, self._stated)

    def classifier(self) -> OwnClassifier:
        """The classifier that came with the weights.

        Raises:
            UsageError: they have none, or its adapter does not read it.
        """
        own = getattr(self.module, "classifier", None)
        if not callable(own) or isinstance(own, nn.Module):
            what = f"own_head: backbone {self.name!r} offers no classifier: those of timm, torchvision, hf and npz do"
            raise UsageError(Problem(what, next_step="use a probe: ridge_probe, logistic_probe or knn"))
        return cast("OwnClassifier", own())

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
        return BuiltBackbone(resized(size_px), self.name, self._labels, self._stated)

    def trainable(self) -> BuiltBackbone:
        """The network that fine-tuning starts from: without the layers that the reference drops before; usually itself."""
        own = getattr(self.module, "trainable", None)
        if own is None:
            return self
        return BuiltBackbone(own(), self.name, self._labels, self._stated)

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


def _with_stated(provenance: Provenance, stated: StatedFacts | None) -> Provenance:
    """The provenance with what the user states of it; weights that were never trained have seen no labels."""
    given = stated.model_dump(exclude_none=True) if stated else {}
    if unknown_sets := sorted(set(given.get("trained_on", ())) - _data_sets()):
        close = nearest(unknown_sets[0], _data_sets())
        step = "name data sets that tasks use (`vitbench list tasks`); all others belong into `pretrain_data`"
        raise UsageError(
            Problem(f"trained_on: no task uses a data set {unknown_sets[0]!r}", nearest=close, next_step=step)
        )
    if provenance.weights in ("untrained", "none") and provenance.trained_on is None:
        given.setdefault("trained_on", ())
    return replace(provenance, **given)


def _data_sets() -> set[str]:
    return {entry.labels["dataset"] for entry in TASKS.entries() if entry.labels.get("dataset")}


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
