"""Scores of networks whose expected accuracy is known: what intervals over images and seeds must cover.

An image is of one of 32 difficulties. A network of accuracy q gets an image right if a normal deviate, made of the image's
difficulty and of luck, is below the q-quantile: 60 % of its variance is the image's, which all seeds of a network share, and
other networks for 70 % of the images. The accuracy itself is that of the backbone plus what the seed adds, kept inside [0, 1].

Images may belong together: of each image the difficulty is then that of its cluster with the probability `alike`.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.special import ndtr, ndtri

DIFFICULTIES = 32
OF_THE_IMAGE = 0.6
SHARED = 0.7
NEAREST = 5e-4  # to 0 and 1
_LEVELS = ndtri((np.arange(DIFFICULTIES) + 0.5) / DIFFICULTIES)


@dataclass(frozen=True)
class World:
    """Backbones of these accuracies on n test images, with so many seeds, whose standard deviation is sd.

    `clusters`: of how many images that belong together; their sizes differ by a tenth if they have ten images or more.
    """

    accuracies: tuple[float, ...]
    n: int
    seeds: int
    sd: float
    clusters: int = 0
    alike: float = 0.0

    def together(self):
        """The cluster of each image (N,)."""
        sizes = np.full(self.clusters, self.n // self.clusters)
        spread = self.n // self.clusters // 10
        sizes[::2] += spread
        sizes[1::2] -= spread
        return np.repeat(np.arange(self.clusters), sizes)[: self.n]

    def _difficulties(self, generator):
        found = generator.integers(DIFFICULTIES, size=self.n, dtype=np.uint8)
        if not self.clusters:
            return found
        of_cluster = generator.integers(DIFFICULTIES, size=self.clusters, dtype=np.uint8)[self.together()]
        return np.where(generator.random(self.n) < self.alike, of_cluster, found)

    def truth(self):
        """The expected accuracy (K,) over images and seeds."""
        return np.array([_expected(accuracy, self.sd) for accuracy in self.accuracies])

    def draw(self, generator):
        """Outcomes (K, S, N) of one benchmark."""
        return self.draw_networks(generator)[0]

    def draw_networks(self, generator):
        """Outcomes (K, S, N) of one benchmark, and the expected accuracy (K, S) of each trained network."""
        wanted = np.array(self.accuracies)[:, None] + self.sd * generator.standard_normal(
            (len(self.accuracies), self.seeds)
        )
        chances = _chances(wanted)  # (K, S, difficulties)
        right = np.minimum(chances * 65536, 65535).astype(np.uint16)
        shared = self._difficulties(generator)
        own = generator.integers(256, size=self.n, dtype=np.uint8) >= round(256 * SHARED)
        outcomes = np.empty((len(right), self.seeds, self.n), np.uint8)
        for k, own_right in enumerate(right):
            difficulty = np.where(own, self._difficulties(generator), shared)
            luck = generator.integers(65536, size=(self.seeds, self.n), dtype=np.uint16)
            outcomes[k] = luck < own_right[:, difficulty]
        return outcomes, chances.mean(2)


def _chances(accuracies):
    """The probability (..., difficulties) that a network of this accuracy is right."""
    quantile = ndtri(np.clip(accuracies, NEAREST, 1 - NEAREST))[..., None]
    return ndtr((quantile - np.sqrt(OF_THE_IMAGE) * _LEVELS) / np.sqrt(1 - OF_THE_IMAGE))


@cache
def _expected(accuracy, sd):
    quantiles = ndtri((np.arange(4000) + 0.5) / 4000)
    return float(_chances(accuracy + sd * quantiles).mean())
