"""From a head and features to answers: classes, margins, and what metrics need of the scores, which are not held together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitbench.api import Labels
from vitbench.core.class_scores import ImageScores, reduce_scores, to_keep
from vitbench.core.errors import VitbenchError
from vitbench.core.record import ScoreKind

MOST_ROWS = 8192  # of features that a head is given at once
MOST_SCORES = 2**26  # that it returns at once, for more than 8,192 classes: 0.5 GB in float64
NARROW = (torch.bfloat16, torch.float16)  # NumPy has no bfloat16


@dataclass(frozen=True)
class Answers:
    """Predicted classes (N,), and by how much the highest score of another class exceeds that of the label (N,).

    `images` is what further metrics need, `kept` all class scores (N, C) if they are to be kept.
    """

    predictions: Labels
    margins: NDArray[np.float32]
    images: ImageScores
    kept: NDArray[np.float16] | None = None


def answer(
    head: Callable[[Tensor], Tensor],
    features: Tensor,
    labels: Labels,
    num_classes: int,
    kind: ScoreKind,
    *,
    keep: bool = False,
) -> Answers:
    """Answers of a head to features (N, D) with labels (N,), block by block.

    Raises:
        VitbenchError: scores are not finite.
    """
    rows = min(MOST_ROWS, max(1, MOST_SCORES // num_classes))
    truth = torch.from_numpy(labels).split(rows)
    with torch.no_grad():
        parts = [_block(head(x), y, kind, keep) for x, y in zip(features.split(rows), truth, strict=True)]
    return Answers(
        np.concatenate([part.predictions for part in parts]),
        np.concatenate([part.margins for part in parts]),
        ImageScores.joined(part.images for part in parts),
        np.concatenate([part.kept for part in parts if part.kept is not None]) if keep else None,
    )


def _block(scores: Tensor, labels: Tensor, kind: ScoreKind, keep: bool) -> Answers:
    if not torch.isfinite(scores).all():
        raise VitbenchError("class scores are not finite: the features or the head have overflowed")
    index = labels.to(scores.device)[:, None]
    own = scores.gather(1, index)[:, 0]
    others = scores.scatter(1, index, -torch.inf).amax(1)
    values = (scores.float() if scores.dtype in NARROW else scores).cpu().numpy()
    return Answers(
        np.asarray(scores.argmax(1).cpu().numpy(), dtype=np.int64),
        (others - own).float().cpu().numpy(),
        reduce_scores(values, labels.numpy(), kind),
        to_keep(values, kind) if keep else None,
    )
