"""An Adaptation over features that are there already."""

from dataclasses import dataclass

import numpy as np
import torch

from vitbench.api import Adaptation, ImageSource, Split


class Rows(ImageSource):
    """Rows of a matrix, which stand for images."""

    fingerprint = "rows"

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def read(self, indices, *, fast_dct=False):
        raise NotImplementedError("there are only features here")

    def name(self, index):
        return str(index)


@dataclass(frozen=True, kw_only=True)
class RowAdaptation(Adaptation):
    """Features are rows of a matrix; there are no pixels."""

    matrix: torch.Tensor
    notes: list

    def features(self, split):
        return self.matrix[split.indices]

    def pixels(self, split, size_px=None):
        raise NotImplementedError("there are only features here")

    def normalise(self, images):
        raise NotImplementedError("there are only features here")

    def note(self, text):
        self.notes.append(text)

    def report(self, done, total, stage=""):
        pass


def adaptation(x, y, *, train, val, notes=None):
    """The first rows to learn from, the next to choose on."""
    source = Rows(len(x))

    def split(start, stop):
        return Split(source, np.arange(start, stop), y[start:stop])

    return RowAdaptation(
        backbone=None, train=split(0, train), val=split(train, train + val), num_classes=int(y.max()) + 1,
        matrix=torch.from_numpy(x), notes=notes if notes is not None else [],
    )  # fmt: skip
