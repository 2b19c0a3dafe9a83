"""`vitbench.evaluate`: a module that is in memory, or any named backbone, on some tasks; in a notebook or a training loop."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vitbench.core.code_digest import digest_of_call, digest_of_class, digest_of_values
from vitbench.core.errors import Problem, UsageError
from vitbench.core.image_input import InputSpec
from vitbench.core.registry import BACKBONES
from vitbench.engine.plan import RunPlan, plan_located
from vitbench.engine.run import Progress, options_from, run_planned
from vitbench.report.results import Results
from vitbench.store.heartbeat import was_abandoned
from vitbench.suite.command_line import Given, entry_of
from vitbench.suite.yaml_lines import Located

NAME = "module"  # of a module in memory, as a backbone
FeatureFunction = Callable[[Any, Tensor], Tensor]


@dataclass(frozen=True)
class HowToCall:
    """How a module is given images: their size, normalisation, and the function that returns features (B, D)."""

    input: InputSpec
    features: FeatureFunction


class ModuleInMemory(nn.Module):
    """A module as a registered backbone."""

    def __init__(self, module: nn.Module, how: HowToCall, feature_dim: int) -> None:
        super().__init__()
        self.module, self.how = module, how
        self.input, self.feature_dim = how.input, feature_dim

    def features(self, images: Tensor) -> Tensor:
        """Features (B, D) of images (B, 3, S, S)."""
        return self.how.features(self.module, images)


def evaluate(  # noqa: PLR0913  one call instead of a file
    backbone: nn.Module | Given,
    tasks: Sequence[Given],
    *,
    protocols: Sequence[Given] = ("knn", "ridge_probe"),
    budgets: Sequence[str] = ("full",),
    seeds: Sequence[int] = (0,),
    size_px: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    features: FeatureFunction | None = None,
    label: str = "",
    out: str | Path = Path("runs") / "evaluate",
    quiet: bool = False,
    **options: Any,
) -> Results:
    """Evaluate a backbone on tasks, and return the results.

    A module is copied: its weights, mode, device and gradients stay as they are, and so do all random streams, so that this can
    be called between two training steps. It is known by a digest of its weights and its code: the same call again, also in
    another process, runs only what is missing.

    Args:
        backbone: a module that maps normalised images (B, 3, S, S) to features (B, D); or what a suite names, as text or dict.
        tasks: as in a suite: registered names, `folder:DIR`, or dicts.
        protocols: as in a suite, with options as text (`"knn,k=20"`) or dicts.
        budgets: `full`, `1k`, `N-shot`.
        seeds: of draws and of fine-tuning.
        size_px: the module's image size S. It, `mean` and `std` are those of its training; timm's models know theirs.
        mean: per channel, of pixels in [0, 1].
        std: per channel.
        features: `(module, images) -> (B, D)`, if the module's forward returns something else.
        label: the name of its row; default: the module's class, or the name.
        out: the run directory.
        quiet: show no progress.
        **options: further ones of a suite (`preprocess`, `limit`, `dtype`) and of `vitbench.run` (`device`, `force`, …).

    Raises:
        UsageError: an option is unknown or missing, or the module does not give features (B, D).
        DataMissingError: a task's data are missing.
    """
    suite: dict[str, Any] = {"name": "evaluate", "backbones": [], "tasks": [], "protocols": []}
    suite |= {
        name: options.pop(name) for name in ("preprocess", "metric", "feature_dtype") if name in options
    }
    chosen = {"tasks": tasks, "protocols": protocols, "budgets": budgets, "seeds": seeds}
    overrides, how = options_from({**options, **chosen})
    if not isinstance(backbone, nn.Module):
        named = {**entry_of(backbone, "backbone"), "label": label} if label else backbone
        overrides = replace(overrides, backbones=[named])
        plan = plan_located(_located(suite), Path(out), overrides)
        return Results(run_planned(plan, how, _progress(quiet)).records, plan.run.path)
    if how.executor != "local" or (how.workers or 1) > 1:
        raise UsageError(
            "a module in memory is evaluated in this process: leave out `workers` and `executor`"
        )
    call = HowToCall(_input(backbone, size_px, mean, std), features or _forward)
    overrides = replace(overrides, backbones=[{"name": NAME, "label": label or type(backbone).__name__}])
    with _undisturbed(), _registered(backbone, call):
        plan = plan_located(_located(suite), Path(out), overrides)
        _forget_killed(plan)
        records = run_planned(plan, replace(how, workers=1), _progress(quiet)).records
        return Results(records, plan.run.path)


def _located(data: Mapping[str, Any]) -> Located:
    """The data of a suite, whose mistakes are in the call."""
    return Located(dict(data), {(): "evaluate()"})


def _progress(quiet: bool) -> Progress:
    if quiet:
        return Progress()
    from vitbench.cli.progress import TerminalProgress

    return TerminalProgress()


def _forward(module: Any, images: Tensor) -> Tensor:
    found: Tensor = module(images)
    return found


def _input(
    module: nn.Module, size_px: int | None, mean: Sequence[float] | None, std: Sequence[float] | None
) -> InputSpec:
    """The images that a module expects: as given, else as it declares itself, else as timm has stored with it.

    Raises:
        UsageError: that is not known.
    """
    own, stored = getattr(module, "input", None), getattr(module, "pretrained_cfg", None) or {}
    known: dict[str, Any] = {"size_px": size_px, "mean": mean, "std": std}
    if isinstance(own, InputSpec):
        declared: dict[str, Any] = {"size_px": own.size_px, "mean": own.mean, "std": own.std}
    else:
        size = stored.get("input_size")
        declared = {
            "size_px": size[-1] if size else None,
            "mean": stored.get("mean"),
            "std": stored.get("std"),
        }
    found = {name: declared[name] if value is None else value for name, value in known.items()}
    if missing := [name for name, value in found.items() if value is None]:
        what = f"{type(module).__name__} does not say how its images are made: {', '.join(missing)} missing"
        step = "evaluate(model, …, size_px=224, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)), as in its training"
        raise UsageError(Problem(what, next_step=step))
    return InputSpec(int(found["size_px"]), tuple(map(float, found["mean"])), tuple(map(float, found["std"])))  # type: ignore[arg-type]


@contextlib.contextmanager
def _registered(module: nn.Module, how: HowToCall) -> Iterator[None]:
    """Within the block, a copy of a module is the backbone `module`."""
    copied = _copy(module)
    made = ModuleInMemory(copied, how, _feature_dim(copied, how))
    digest = _digest(copied, how)
    BACKBONES.register(NAME, data=lambda _options: digest, family=type(module).__name__)(lambda: made)
    try:
        yield
    finally:
        BACKBONES.remove(NAME)


def _copy(module: nn.Module) -> nn.Module:
    """A copy in eval mode, without the wrappers of torch.compile and data-parallel training."""
    dynamo = sys.modules.get("torch._dynamo.eval_frame")  # imported if anything is compiled
    if dynamo and isinstance(module, dynamo.OptimizedModule):
        return _copy(module._orig_mod)
    if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return _copy(module.module)
    try:
        return copy.deepcopy(module).eval()
    except Exception as error:
        what = f"{type(module).__name__} cannot be copied: {error}"
        raise UsageError(
            Problem(what, next_step="save its weights, and name them as a checkpoint")
        ) from error


def _feature_dim(module: nn.Module, how: HowToCall) -> int:
    """The width D of the features of one image.

    Raises:
        UsageError: they are not (1, D).
    """
    weight = next(module.parameters(), torch.empty(0))
    images = torch.zeros(
        1, 3, how.input.size_px, how.input.size_px, device=weight.device, dtype=torch.float32
    )
    with torch.no_grad():
        found: Any = how.features(module, images)
    if isinstance(found, Tensor) and found.ndim == 2 and len(found) == 1:
        return int(found.shape[1])
    gives = f"a tensor {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
    step = "features=lambda module, images: module.forward_features(images)[:, 0], for example"
    raise UsageError(
        Problem(f"{type(module).__name__} gives {gives} for one image, not features (1, D)", next_step=step)
    )


def _digest(module: nn.Module, how: HowToCall) -> str:
    """SHA-256 of all that features depend on: weights, buffers, structure, settings, code, and how it is called."""
    total = hashlib.sha256(f"{module!r} {how.input} {digest_of_call(how.features)}".encode())
    for kind in sorted({type(inner) for inner in module.modules()}, key=repr):
        total.update(f"{kind} {digest_of_class(kind)}".encode())
    for name, inner in module.named_modules():
        settings = {key: value for key, value in vars(inner).items() if not key.startswith("_")}
        total.update(f"{name} {type(inner)} {digest_of_values(settings)}".encode())
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        total.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        total.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Within the block, gradients are on; afterwards, random streams and torch's settings are as before."""
    streams, numbers, threads = random.getstate(), np.random.get_state(), torch.get_num_threads()  # noqa: NPY002  restored
    tf32 = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    with torch.random.fork_rng(), torch.inference_mode(False), torch.enable_grad():
        try:
            yield
        finally:
            random.setstate(streams)
            np.random.set_state(numbers)  # noqa: NPY002
            torch.set_num_threads(threads)
            torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = tf32


def _forget_killed(plan: RunPlan) -> None:
    """Let jobs that were killed run in this process again: no other one has the module."""
    folder = plan.run.path / ".running"
    for job in plan.suite.jobs:
        if was_abandoned(folder, job.key):
            (folder / f"{job.key}.json").unlink(missing_ok=True)
