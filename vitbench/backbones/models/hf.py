"""Wrapper of Hugging Face transformers models: features are what the checkpoint's own classifier takes as input."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from vitbench.api import InputSpec, Provenance
from vitbench.backbones.models.hf_input import input_of, refuse_other_inputs
from vitbench.backbones.models.hf_tokens import last_blocks, prefix_tokens
from vitbench.backbones.models.hub import optional_library
from vitbench.backbones.models.hub_access import COMMIT_LETTERS, cached_file, hub_trouble, reason
from vitbench.backbones.models.linear_head import classifier_of, ids_of_descriptions, no_classifier
from vitbench.backbones.models.weights import shortened
from vitbench.core.errors import DataMissingError, Problem, UsageError
from vitbench.core.own_classifier import OwnClassifier
from vitbench.core.record import LoadReport
from vitbench.core.seeding import torch_generator
from vitbench.core.tokens import Tokens

Pooling = Literal["own", "class_token", "patch_mean"]


class TransformersBackbone(nn.Module):
    """A vision model of Hugging Face transformers; features are chosen by `pooling`.

    `own` is the input of the checkpoint's classifier; without a classifier, the pooled output if its weights are in the
    checkpoint, else the class token, else the mean of all tokens. A masked autoencoder sees all patches.

    Raises:
        UsageError: the model does not have the tokens of `pooling`, or two passes give different features.
    """

    def __init__(
        self, network: nn.Module, encoder: str, spec: InputSpec, pooling: Pooling, provenance: Provenance
    ) -> None:
        super().__init__()
        self.network = (
            network  # of a checkpoint with a classifier the whole, whose classifier is the identity
        )
        self.encoder = encoder  # the name of its part without the classifier; '' if it is all of it
        self.input = spec
        self.pooling = pooling
        self.provenance = provenance
        self.heads: tuple[nn.Linear, ...] = ()  # in a tuple: not among the backbone's weights
        shape = (2, 3, spec.size_px, spec.size_px)
        images = torch.randn(shape, generator=torch_generator(0, "hf check"))
        with torch.no_grad():
            first, second = self.features(images), self.features(images)
        if not torch.equal(first, second):
            raise UsageError(
                f"{provenance.source}: two passes over the same images give different features, so it cannot be scored"
            )
        self.feature_dim = int(first.shape[1])

    def classifier(self) -> OwnClassifier:
        """The linear layer that the checkpoint has for these features; its classes are known where it names ImageNet's.

        Raises:
            UsageError: it has none, several, or features are pooled otherwise.
        """
        source = self.provenance.source
        if self.pooling != "own" or len(self.heads) != 1:
            found = (
                f"the checkpoint has {len(self.heads)} classifiers"
                if self.heads
                else "the checkpoint has no classifier"
            )
            raise no_classifier(
                source, f"features are pooled by {self.pooling}" if self.pooling != "own" else found
            )
        (head,) = self.heads
        if head.in_features != self.feature_dim:
            raise no_classifier(
                source, f"its classifier takes {head.in_features} features, not {self.feature_dim}"
            )
        config: Any = self.network.config
        names = [str(config.id2label.get(i, "")) for i in range(head.out_features)]
        return classifier_of(head.weight, head.bias, ids_of_descriptions(names), source)

    def features(self, images: Tensor) -> Tensor:
        """Features (B, D) of images (B, 3, S, S)."""
        if self.pooling == "own" and self.encoder:
            output = self.network(pixel_values=images)
            scores = output.logits if "logits" in output else output.last_hidden_state  # PP-LCNet's
            return cast("Tensor", scores).flatten(1)
        model: Any = self.network.get_submodule(self.encoder)
        output = model(pixel_values=images, **_all_patches(model, images))
        pooled = getattr(output, "pooler_output", None)
        if pooled is None:
            pooled = getattr(output, "cls_token_value", None)  # CvT's
        if self.pooling == "own" and pooled is not None:
            return cast("Tensor", pooled).flatten(1)
        states = cast("Tensor", output.last_hidden_state)
        if states.ndim == 4:  # convolutional: (B, D, h, w)
            if self.pooling == "class_token":
                raise UsageError(f"{self.provenance.source} has no class token: use pooling: own")
            return states.mean((2, 3))
        return self._pooled_tokens(states, prefix_tokens(model, self.input.size_px, states.shape[1]))

    def _pooled_tokens(self, states: Tensor, prefix: int | None) -> Tensor:
        if self.pooling == "patch_mean":
            if prefix is None:
                raise UsageError(
                    f"{self.provenance.source}: its patch tokens cannot be told from others; use own"
                )
            return states[:, prefix:].mean(1)
        if prefix:
            return states[:, 0]
        if self.pooling == "class_token":
            raise UsageError(f"{self.provenance.source} has no class token: use pooling: own or patch_mean")
        return states.mean(1)

    def last_blocks(self, images: Tensor, count: int) -> tuple[Tokens, ...]:
        """The tokens of the last `count` blocks, after the final norm: see `hf_tokens`."""
        model: Any = self.network.get_submodule(self.encoder)
        return last_blocks(model, images, count, _all_patches(model, images), self.provenance.source)

    @classmethod
    def build(cls, name: str, revision: str, pooling: Pooling, size_px: int | None) -> TransformersBackbone:
        """Load a model and its image processor; code from the hub is never executed.

        Raises:
            UsageError: transformers is not installed, or the checkpoint lacks weights that features depend on.
            DataMissingError: there is no such model, or it cannot be downloaded.
        """
        library = optional_library("transformers", "transformers")
        if not sys.stderr.isatty():
            library.utils.logging.disable_progress_bar()  # its bar of loading weights goes into logs too
        processor, loaded, report = _downloaded(library, name, revision)
        source = f"hf:{name}"
        refuse_other_inputs(processor, loaded.config, source)
        encoder = ""
        heads = _taken_off(loaded)
        if heads:
            parts = (loaded.base_model_prefix, "vision_model", "encoder")
            encoder = next((part for part in parts if hasattr(loaded, part)), "")
        else:
            loaded = getattr(
                loaded, "vision_model", loaded
            )  # CLIP and similar models: the image encoder only
        model: Any = loaded.get_submodule(encoder)
        if not hasattr(model, "config"):  # HGNetV2: the parts stand side by side
            model = loaded
        missing = _missing(report, model)
        if (
            any(weight.startswith("pooler.") for weight in missing)
            and getattr(model, "pooler", None) is not None
        ):
            model.pooler = None  # randomly initialised: transformers adds one to checkpoints that have none
            missing = [weight for weight in missing if not weight.startswith("pooler.")]
        if missing:
            shown = ", ".join(missing[:3])
            what = f"hf:{name}: the checkpoint lacks {len(missing)} weights of the model, such as {shown}"
            step = "use a checkpoint of this architecture; transformers would initialise them randomly"
            raise UsageError(Problem(what, next_step=step))
        spec = input_of(processor, model.config, source, size_px)
        provenance = Provenance(
            family=str(model.config.model_type),
            weights="pretrained",
            source=f"hf:{name}@{_commit(name, revision)}",
            load=_report(model, report),
        )
        backbone = cls(loaded.eval(), encoder, spec, pooling, provenance)
        backbone.heads = heads
        return backbone


def _commit(name: str, revision: str) -> str:
    """The commit that the weights were read from; the revision itself for a folder."""
    config = None if Path(name).is_dir() else cached_file(name, ("config.json",), revision)
    return config.parent.name[:COMMIT_LETTERS] if config else revision


def _downloaded(library: Any, name: str, revision: str) -> tuple[Any, Any, dict[str, Any]]:
    """The processor, the model (with its classifier if it was saved with one), and transformers' report of loading."""
    if not Path(name).is_dir():
        _ = (
            library.AutoImageProcessor,
            library.AutoModelForImageClassification,
        )  # imported while the hub answers
        hub_trouble()
    how = {"revision": revision, "trust_remote_code": False}
    try:
        processor = library.AutoImageProcessor.from_pretrained(name, **how)
        config = library.AutoConfig.from_pretrained(name, **how)
        classifies = any(arch.endswith("ForImageClassification") for arch in config.architectures or ())
        kind = library.AutoModelForImageClassification if classifies else library.AutoModel
        model, report = kind.from_pretrained(name, use_safetensors=True, output_loading_info=True, **how)
    except Exception as error:
        first = str(error).strip().partition("\n")[0] if Path(name).is_dir() else reason(error)
        raise DataMissingError(
            Problem(
                f"hf:{name} cannot be loaded: {first}",
                next_step="connect to the internet once to download it, or give the path of a saved model folder",
            )
        ) from error
    return processor, model.float(), dict(report)  # transformers keeps the checkpoint's own precision


def _taken_off(model: Any) -> tuple[nn.Linear, ...]:
    """The linear classifiers, each replaced by the identity, so that the scores are their input."""
    if not type(model).__name__.endswith("ForImageClassification"):
        return ()
    inside = (f"{model.base_model_prefix}.", "vision_model.", "encoder.")
    heads = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and module.out_features == model.config.num_labels
        and not name.startswith(inside)
    ]
    found = tuple(model.get_submodule(name) for name in heads)
    for name in heads:
        model.set_submodule(name, nn.Identity())
    return found


def _missing(report: dict[str, Any], model: Any) -> list[str]:
    """Weights of the model that the checkpoint lacks, under the model's own names, with those of other shapes."""
    lacking = [*report["missing_keys"], *(entry[0] for entry in report["mismatched_keys"])]
    own = set(model.state_dict())
    return sorted(name for name in own if any(key == name or key.endswith(f".{name}") for key in lacking))


_HEADS = (
    "classifier",
    "cls_classifier",
    "distillation_classifier",
    "head",
    "decoder",
    "lm_head",
    "mask_token",
)


def _report(model: Any, report: dict[str, Any]) -> LoadReport:
    """What became of the checkpoint's tensors, by transformers' own report."""
    used, rest = len(model.state_dict()), list(report["unexpected_keys"])
    heads = [name for name in rest if any(part in _HEADS for part in name.split("."))]
    return LoadReport(
        in_file=used + len(rest),
        used=used,
        left_out=shortened(heads),
        unused=shortened(name for name in rest if name not in heads),
    )


def _all_patches(model: Any, images: Tensor) -> dict[str, Tensor]:
    """Arguments that make a masked autoencoder keep all patches, in their order."""
    if not hasattr(model.config, "mask_ratio"):
        return {}
    model.config.mask_ratio = 0.0
    patches = (images.shape[-1] // int(model.config.patch_size)) ** 2
    return {"noise": torch.arange(float(patches), device=images.device).expand(len(images), patches)}
