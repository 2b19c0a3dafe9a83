"""Frozen-feature solvers against their peers in the same run: `taskset -c 1 python tests/benchmarks/probes.py`.

One thread, processor time, medians of interleaved rounds, on made-up features: class means and noise whose spectrum falls as a
power. Peers: big_vision's few-shot algorithm in JAX where it is installed, else the same in float32 torch; scikit-learn's lbfgs
at the cheapest tolerance that reaches a relative gap of 1e-6 for each C, and not charged where none does; scikit-learn's brute
force neighbours; DINOv2's one-hot vote. Targets are printed beside the ratios; docs/protocols.md#measurements-behind-the-code.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import threading
import time
import warnings
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))
from vitbench.protocols import knn, logistic_probe, ridge_probe

TOLERANCES = (1e-4, 1e-6, 1e-8)


def features(n: int, d: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features (n, d) float32 and labels (n,), every class present."""
    rng = np.random.default_rng([seed, n, d])
    spectrum = np.arange(1, d + 1) ** -0.5
    means = np.random.default_rng([9, d, classes]).standard_normal((classes, d)) * spectrum * 0.35
    labels = rng.integers(0, classes, n)
    labels[:classes] = np.arange(classes)
    return (means[labels] + rng.standard_normal((n, d)) * spectrum).astype(np.float32), labels


def seconds(run: Callable[[], object]) -> float:
    """Processor time of a call."""
    start = time.process_time()
    run()
    return time.process_time() - start


def big_vision(
    x: np.ndarray, y: np.ndarray, x_test: np.ndarray, y_test: np.ndarray, classes: int
) -> list[float]:
    """Its algorithm: one float32 eigendecomposition of the padded features; for each penalty, weights and all test scores."""
    xp = __import__("jax.numpy", fromlist=["x"]) if find_spec("jax") else torch
    as_array = xp.asarray
    mean, std = x.mean(0), x.std(0) + 1e-5
    pad = lambda a: as_array(np.concatenate([(a - mean) / std, np.full((len(a), 1), 100.0, np.float32)], 1))  # noqa: E731
    a, b, truth = pad(x), pad(x_test), as_array(y_test)
    targets = as_array((2 * np.eye(classes, dtype=np.float32)[y] - 1).astype(np.float32))
    is_primal = a.shape[0] >= a.shape[1]
    values, vectors = xp.linalg.eigh(a.T @ a if is_primal else a @ a.T)
    right = vectors.T @ (a.T @ targets if is_primal else targets)
    left = vectors if is_primal else a.T @ vectors
    return [
        float(((b @ (left @ (right / (values + l2)[:, None]))).argmax(1) == truth).sum()) / len(y_test)
        for l2 in ridge_probe.GRID
    ]


def ours(x: np.ndarray, y: np.ndarray, x_test: np.ndarray, y_test: np.ndarray, classes: int) -> list[float]:
    """The same thirty accuracies."""
    solution = ridge_probe.fit(torch.from_numpy(x), torch.from_numpy(y), classes, ridge_probe.GRID)
    return solution.top1(torch.from_numpy(x_test), torch.from_numpy(y_test), ridge_probe.GRID)


def ridge(rounds: int) -> None:
    """Thirty penalties on the test set."""
    for n, d, classes, m in (
        (500, 1024, 100, 10000),
        (1000, 768, 100, 10000),
        (1000, 768, 10, 10000),
        (1000, 4096, 100, 10000),
    ):
        x, y = features(n, d, classes)
        test = features(m, d, classes, 1)
        solution = ridge_probe.fit(torch.from_numpy(x), torch.from_numpy(y), classes, ridge_probe.GRID)
        exact = [
            float((solution.scores(torch.from_numpy(test[0]), l2).argmax(1).numpy() == test[1]).mean())
            for l2 in ridge_probe.GRID
        ]
        off = [
            max(abs(a - b) for a, b in zip(run(x, y, *test, classes), exact, strict=True))
            for run in (ours, big_vision)
        ]
        ratios, loo = [], []
        for _ in range(rounds):
            mine = seconds(partial(ours, x, y, *test, classes))
            ratios.append(seconds(partial(big_vision, x, y, *test, classes)) / mine)
            loo.append(
                mine
                / seconds(
                    partial(
                        solution.left_out_top1, torch.from_numpy(x), torch.from_numpy(y), ridge_probe.GRID
                    )
                )
            )
        target = 2 if classes >= 100 else 1
        print(
            f"ridge N={n} D={d} C={classes} M={m}: {statistics.median(ratios):.2f} times big_vision's (target {target}); "
            f"off float64 by {off[0]:.5f} (theirs {off[1]:.5f}); leave-one-out selection {statistics.median(loo):.1f} times"
        )


def product_rates() -> str:
    """What bounds both: float32 products of the scores' shape."""
    a, b = (
        np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        for shape in ((699, 768), (768, 1500))
    )
    found = []
    for xp in (torch, __import__("jax.numpy", fromlist=["x"]) if find_spec("jax") else np):
        left, right = xp.asarray(a), xp.asarray(b)
        float((left @ right)[0, 0])
        taken = min(seconds(lambda: float((left @ right)[0, 0])) for _ in range(20))  # noqa: B023
        found.append(f"{2 * a.size * b.shape[1] / taken / 1e9:.0f} GFLOP/s in {xp.__name__}")
    return ", ".join(found)


def digits(width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Real images: 1,078 digits to learn from, the rest to score, through a random layer of so many units."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    layer = np.random.default_rng(1).standard_normal((64, width)) / 2
    z = np.maximum(x / 16 @ layer, 0).astype(np.float32)
    return z[:1078], y[:1078], z[1078:], y[1078:]


def logistic(values: int) -> None:
    """The whole grid of C, certified; scikit-learn C by C."""
    from sklearn.linear_model import LogisticRegression

    cases = [
        digits(512),
        *((*features(1000, d, c), *features(5000, d, c, 1)) for d, c in ((768, 100), (2048, 100))),
    ]
    for x, y, test_x, test_y in cases:
        (n, d), classes = x.shape, int(y.max()) + 1
        grid = np.logspace(-6, 5, values)
        start = time.process_time()
        found = logistic_probe.fit(torch.from_numpy(x), torch.from_numpy(y), classes, (1 / grid).tolist())
        mine = time.process_time() - start
        exact = logistic_probe.fit(
            torch.from_numpy(x), torch.from_numpy(y), classes, (1 / grid).tolist(), 1e-9
        )
        theirs, failed, reached, off = 0.0, 0.0, 0, 0.0
        for i, c in enumerate(grid):
            right = [
                (s.scores(torch.from_numpy(test_x), i).argmax(1).numpy() == test_y).mean()
                for s in (found, exact)
            ]
            off = max(off, abs(right[0] - right[1]))
            for tolerance in TOLERANCES:
                begun = time.process_time()
                model = LogisticRegression(C=c, tol=tolerance, max_iter=3000).fit(x.astype(np.float64), y)
                took = time.process_time() - begun
                losses = -model.predict_log_proba(x.astype(np.float64))[np.arange(n), y]
                objective = losses.sum() + (model.coef_**2).sum() / (2 * c)
                if objective <= float(exact.objective[i]) * (1 + 1e-6):
                    theirs, reached = theirs + took, reached + 1
                    break
            else:
                failed += took
        true = float(((found.objective - exact.objective) / exact.objective).max())
        print(
            f"logistic N={n} D={d} C={classes}, {values} penalties: {mine:.2f} s, true gap at most {true:.1e}, "
            f"accuracy off by {off:.4f}; scikit-learn reached 1e-6 on {reached} of {values} in {theirs:.2f} s: "
            f"at least {theirs / mine:.1f} times, {(theirs + failed) / mine:.1f} with its tries at the others (target 5)"
        )


def one_hot_vote(
    top: torch.Tensor, labels: torch.Tensor, ks: tuple[int, ...], classes: int
) -> list[torch.Tensor]:
    """DINOv2's: every neighbour's vote as a one-hot row."""
    votes = torch.nn.functional.one_hot(labels, classes) * (top / knn.TEMPERATURE).softmax(1)[..., None]
    return [votes[:, :k].sum(1) for k in ks]


def neighbours(rounds: int) -> None:
    """Search and vote."""
    from sklearn.neighbors import NearestNeighbors

    for n, m, k in ((20000, 2000, 20), (20000, 2000, 200), (1000, 5000, 20)):
        x, y = features(n, 768, 1000)
        queries, _ = features(m, 768, 1000, 1)
        unit = [a / np.linalg.norm(a, axis=1, keepdims=True) for a in (x, queries)]
        index = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(unit[0])
        gallery, wanted = torch.from_numpy(x), torch.from_numpy(queries)
        cosines = unit[1][:500].astype(np.float64) @ unit[0].astype(np.float64).T
        truth = np.argpartition(-cosines, k, axis=1)[:, :k]
        _, mine = knn.neighbours(gallery, wanted[:500], [k])
        same = np.mean([set(a) == set(b) for a, b in zip(truth, mine.numpy(), strict=True)])
        ratios = [
            seconds(partial(index.kneighbors, unit[1]))
            / seconds(partial(knn.neighbours, gallery, wanted, [k]))
            for _ in range(rounds)
        ]
        print(
            f"kNN N={n} M={m} k={k}: {statistics.median(ratios):.2f} times scikit-learn's (target 1.4); same sets {same:.4f}"
        )
    x, y = features(20000, 768, 1000)
    queries = torch.from_numpy(features(1000, 768, 1000, 1)[0][:256])
    top, near = knn.neighbours(torch.from_numpy(x), queries, [200])
    labels, ks = torch.from_numpy(y)[near], (10, 20, 100, 200)
    fast, slow = knn.tally(top, labels, ks, 1000), one_hot_vote(top, labels, ks, 1000)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(fast, slow, strict=True))
    ratios = [
        seconds(lambda: one_hot_vote(top, labels, ks, 1000))
        * 20
        / seconds(lambda: [knn.tally(top, labels, ks, 1000) for _ in range(20)])
        for _ in range(rounds)
    ]
    print(
        f"kNN vote of 256 queries, k 10 to 200, 1,000 classes: {statistics.median(ratios):.0f} times DINOv2's (target 100)"
    )


def memory() -> None:
    """Memory above the inputs, each in a process of its own."""
    import multiprocessing

    context = multiprocessing.get_context("spawn")
    peaks = []
    for which in ("ours", "big_vision"):
        queue = context.SimpleQueue()
        child = context.Process(target=_peak, args=(which, queue))
        child.start()
        peaks.append(queue.get())
        child.join()
    print(
        f"ridge memory above the inputs, N=10000 D=768 C=1000 M=20000: {peaks[0]:.0f} MB, "
        f"{peaks[0] / peaks[1]:.2f} of big_vision's (target 0.5)"
    )


def _peak(which: str, queue: object) -> None:
    torch.set_num_threads(1)
    run = {"ours": ours, "big_vision": big_vision}[which]
    small = features(64, 32, 10)
    run(*small, *small, 10)  # what the libraries take at first use
    x, y = features(10000, 768, 1000)
    test = features(20000, 768, 1000, 1)
    queue.put(above(partial(run, x, y, *test, 1000)))  # type: ignore[attr-defined]


def above(run: Callable[[], object]) -> float:
    """How many MB of memory a call takes at most, above what the process has before."""
    seen, going = [_resident_mb()], True

    def watch() -> None:
        while going:
            seen.append(_resident_mb())
            time.sleep(0.002)

    watcher = threading.Thread(target=watch)
    watcher.start()
    run()
    going = False
    watcher.join()
    return max(seen) - seen[0]


def large_logistic(values: int) -> None:
    """The whole grid of C on 50,000 images, and scikit-learn at one C; some eight minutes on one core."""
    from sklearn.linear_model import LogisticRegression

    x, y = features(50_000, 768, 100)
    fit = partial(logistic_probe.fit, torch.from_numpy(x), torch.from_numpy(y), 100)
    fit_small = partial(logistic_probe.fit, torch.randn(50, 8), torch.arange(50) % 5, 5)
    fit_small(1.0)  # what the libraries take at first use
    taken: list[float] = []
    peak = above(lambda: taken.append(seconds(partial(fit, (1 / np.logspace(-6, 5, values)).tolist()))))
    theirs = seconds(lambda: LogisticRegression(C=1.0, max_iter=3000).fit(x, y))
    print(
        f"logistic N=50000 D=768 C=100, {values} penalties: {taken[0]:.0f} s and {peak:.0f} MB above the features "
        f"(target 2,000); scikit-learn at C = 1 alone, tolerance 1e-4: {theirs:.0f} s, "
        f"{theirs * values / taken[0]:.1f} times ours per penalty"
    )


def _resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("only", nargs="*", default=("ridge", "memory", "knn", "logistic", "large"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--values", type=int, default=45)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    print("big_vision's algorithm runs in", "JAX" if find_spec("jax") else "torch, as JAX is not installed")
    if "ridge" in options.only:
        print("limit: float32 matrix products run at", product_rates())
        ridge(options.rounds)
    if "memory" in options.only:
        memory()
    if "knn" in options.only:
        neighbours(options.rounds)
    if "logistic" in options.only:
        logistic(options.values)
    if "large" in options.only:
        large_logistic(options.values)


if __name__ == "__main__":
    main()
