import numpy as np
import torch

from vitbench.protocols import knn
from vitbench.protocols.knn import TEMPERATURE, vote

RNG = np.random.default_rng(0)
X, Y, Q = RNG.normal(size=(60, 8)), RNG.integers(0, 5, 60), RNG.normal(size=(17, 8))


def reference(k):
    """DINOv2's vote, example by example."""
    x, q = (a / np.linalg.norm(a, axis=1, keepdims=True) for a in (X, Q))
    scores = np.zeros((len(q), 5))
    for i, similarity in enumerate(q @ x.T):
        nearest = np.argsort(-similarity)[:k]
        for j in nearest:
            scores[i, Y[j]] += np.exp(similarity[j] / TEMPERATURE)
    return scores / scores.sum(1, keepdims=True)


def test_every_k_of_one_search_is_the_reference(monkeypatch):
    monkeypatch.setattr(knn, "QUERIES_PER_BLOCK", 5)
    found = vote(*(torch.from_numpy(a) for a in (X, Y, Q)), [1, 10, 20, 500], 5).double()
    for scores, k in zip(found, (1, 10, 20, 60), strict=True):
        normalised = scores / scores.sum(1, keepdim=True)
        assert np.abs(normalised.numpy() - reference(k)).max() < 1e-5
