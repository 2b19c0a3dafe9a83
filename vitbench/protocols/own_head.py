"""The own-head protocol: scores the classifier that came with the weights; nothing is trained (docs/protocols.md#own-head)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from vitbench.api import Adaptation, Adapted, Effort, Protocol, Split
from vitbench.core.errors import Problem, UsageError
from vitbench.core.job import Job, PreprocessName
from vitbench.core.own_classifier import OwnClassifier
from vitbench.core.record import ScoreKind
from vitbench.core.registry import register_protocol

if TYPE_CHECKING:
    from torch import Tensor


@register_protocol("own_head", version=1, source="TM:validate.py", trained_by="the weights' authors")
@dataclass(frozen=True)
class OwnHead(Protocol):
    """The classifier that came with the weights, on a task whose classes it has; nothing is trained.

    Classes are found by name (WordNet ids), of timm's own weights. `class_map` is a text file that says it instead: in each
    line the number of the classifier's class, from 0, for the task's classes in their order.
    """

    default_preprocess: ClassVar[PreprocessName] = "timm_eval"
    score_kind: ClassVar[ScoreKind] = "logits"

    class_map: Path | None = None

    def depends_on_seed(self, budget: str) -> bool:
        """Return False: nothing is drawn; of an N-shot budget, no image is read."""
        del budget
        return False

    def departures(self, job: Job) -> tuple[str, ...] | None:
        """Other preprocessing than that of the weights."""
        return self.other_preprocess(job)

    def effort(self, train: Split, val: Split, task: str, params: int, resolution_px: int | None) -> Effort:
        """Return nothing: test images alone are passed forward."""
        del train, val, task, params
        return Effort(0, 0, resolution_px)

    def adapt(self, data: Adaptation) -> Adapted:
        """Take the classifier, and of its classes those of the task.

        Raises:
            UsageError: the weights have no classifier, or it is not known which of its classes are the task's.
        """
        backbone: Any = data.backbone
        own: OwnClassifier = backbone.classifier()
        rows = self._rows(own, data)
        module = own.module.to(data.device).eval()

        def scores(features: Tensor) -> Tensor:
            found: Tensor = module(features)
            return found if rows is None else found[:, rows]

        return Adapted(data.backbone, scores, False)

    def _rows(self, own: OwnClassifier, data: Adaptation) -> list[int] | None:
        """The classifier's class of each class of the task; None if they are the same."""
        if self.class_map is not None:
            data.note(f"the classifier's classes are the task's by {self.class_map.name}")
            return _read_map(self.class_map, data.num_classes, own.classes)
        if own.names is not None and (
            missing := [name for name in data.class_names if name not in own.names]
        ):
            raise _unmapped(
                own, data, f"{len(missing)} of the task's classes are not among them, such as {missing[0]}"
            )
        if own.names is not None:
            if own.names == data.class_names:
                return None
            data.note(
                f"{data.num_classes} of the classifier's {own.classes} classes are the task's, by their names"
            )
            return [own.names.index(name) for name in data.class_names]
        if own.classes != data.num_classes:
            raise _unmapped(own, data, "what they are is not known")
        data.note(
            f"what the classifier's {own.classes} classes are is not known: they are taken for the task's, in its order"
        )
        return None


def _read_map(path: Path, task_classes: int, own_classes: int) -> list[int]:
    """The classifier's class of each class of the task, from a file with one number a line.

    Raises:
        UsageError: there is no such file, or it has other than one valid number for each class.
    """
    try:
        lines = path.read_text(encoding="utf-8").split()
        found = [int(line) for line in lines]
    except (OSError, ValueError) as error:
        raise UsageError(f"class_map {path}: {error}") from error
    if len(found) != task_classes:
        raise UsageError(f"class_map {path} has {len(found)} numbers: the task has {task_classes} classes")
    if outside := [number for number in found if not 0 <= number < own_classes]:
        raise UsageError(
            f"class_map {path}: {outside[0]} is no class of the classifier: it has 0 to {own_classes - 1}"
        )
    if twice := [number for number, times in Counter(found).items() if times > 1]:
        raise UsageError(f"class_map {path}: class {twice[0]} stands for two classes of the task")
    return found


def _unmapped(own: OwnClassifier, data: Adaptation, why: str) -> UsageError:
    what = f"own_head: the weights' classifier has {own.classes} classes, the task {data.num_classes}; {why}"
    return UsageError(
        Problem(
            what,
            next_step="state `class_map: FILE`, with the classifier's class of each of the task's, one a line",
        )
    )
