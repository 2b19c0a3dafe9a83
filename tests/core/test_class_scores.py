"""Top-5, mean per-class accuracy, NLL and calibration error: scikit-learn's, torchmetrics', the definition's; odd inputs."""

import json
import math
import warnings
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.special import log_softmax, softmax
from scipy.stats import binomtest
from sklearn.calibration import calibration_curve
from sklearn.metrics import balanced_accuracy_score, log_loss, top_k_accuracy_score

from tests.making.paths import GOLDEN
from vitbench.core import class_scores
from vitbench.core.class_scores import ImageScores, ece, further_metrics, reduce_scores, to_keep
from vitbench.core.metric_names import title_of

RNG = np.random.default_rng(0)


def of(scores, labels, kind="logits", classes=None):
    """All further metrics of class scores (N, C), predictions by argmax."""
    scores, labels = np.asarray(scores), np.asarray(labels)
    right = scores.argmax(1) == labels
    return further_metrics(
        reduce_scores(scores, labels, kind), right, labels, classes or scores.shape[1], kind
    )


def drawn(n=500, classes=12, scale=3.0, dtype=np.float32):
    labels = RNG.integers(classes, size=n)
    scores = RNG.normal(size=(n, classes)) * scale
    scores[np.arange(n), labels] += 2
    return scores.astype(dtype), labels


def guo(probabilities, labels, bins=15):
    """ECE as in the code of Guo et al. (arXiv 1706.04599): confidences in (lower, upper], gap weighted by the bin's share."""
    confidence, predicted = probabilities.max(1), probabilities.argmax(1)
    edges, total = np.linspace(0, 1, bins + 1), 0.0
    for lower, upper in pairwise(edges):
        inside = (confidence > lower) & (confidence <= upper)
        if inside.any():
            gap = (predicted[inside] == labels[inside]).mean() - confidence[inside].mean()
            total += abs(gap) * inside.mean()
    return total


def balanced(labels, predicted):
    """scikit-learn's balanced accuracy, which warns of predicted classes without a test image."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return balanced_accuracy_score(labels, predicted)


@pytest.mark.parametrize("classes", [6, 12, 300])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_they_are_scikit_learns_and_the_definitions(classes, dtype):
    scores, labels = drawn(800, classes, dtype=dtype)
    found, every = of(scores, labels), np.arange(classes)
    probabilities = softmax(scores.astype(np.float64), axis=1)
    assert found["top5"].value == top_k_accuracy_score(labels, scores, k=5, labels=every)
    assert found["mean_per_class"].value == pytest.approx(balanced(labels, scores.argmax(1)), abs=1e-15)
    assert found["nll"].value == pytest.approx(log_loss(labels, probabilities, labels=every), rel=1e-12)
    assert found["ece"].value == pytest.approx(guo(probabilities, labels), abs=1e-12)
    assert {metric.n for metric in found.values()} == {800}


def test_they_are_torchmetrics():
    """By torchmetrics 1.9.0 (tests/golden/further_metrics.json says how); its bins are closed below, ours above."""
    golden = json.loads((GOLDEN / "further_metrics.json").read_text())
    for case in golden["cases"]:
        generator = np.random.default_rng(case["seed"])
        labels = generator.integers(case["classes"], size=case["n"])
        scores = generator.normal(size=(case["n"], case["classes"])) * case["scale"]
        scores[np.arange(len(labels)), labels] += case["shift"]
        found = of(scores, labels)
        assert found["ece"].value == pytest.approx(case["ece"], abs=1e-6)  # its bins are in float32
        assert found["top5"].value == pytest.approx(case["top5"], abs=1e-6)
        assert found["mean_per_class"].value == pytest.approx(case["mean_per_class"], abs=1e-6)
        assert found["nll"].value == pytest.approx(case["nll"], rel=1e-12)


def test_the_interval_of_top5_is_scipys_and_the_others_have_none():
    scores, labels = drawn()
    found = of(scores, labels)
    hits = round(found["top5"].value * 500)
    wanted = binomtest(hits, 500).proportion_ci(0.95, "wilson")
    assert (found["top5"].ci_low, found["top5"].ci_high) == pytest.approx((wanted.low, wanted.high))
    assert {(found[name].ci_low, found[name].ci_high) for name in ("mean_per_class", "nll", "ece")} == {
        (None, None)
    }


@pytest.mark.parametrize("classes", [2, 5])
def test_top5_of_five_classes_or_fewer_is_not_stated(classes):
    found = of(*drawn(50, classes))
    assert found["top5"].value is None
    assert found["top5"].note == f"of {classes} classes all would be among the first 5"
    assert found["nll"].value is not None


def test_equal_scores_are_in_the_order_of_classes_as_in_argmax():
    """scikit-learn takes the higher class first: classes reversed, its rule is ours."""
    scores = RNG.integers(3, size=(2000, 9)).astype(float)
    labels = RNG.integers(9, size=2000)
    wanted = top_k_accuracy_score(8 - labels, scores[:, ::-1], k=5, labels=np.arange(9))
    assert of(scores, labels)["top5"].value == wanted
    assert wanted != top_k_accuracy_score(labels, scores, k=5, labels=np.arange(9))
    rank = reduce_scores(scores, scores.argmax(1), "logits").rank
    assert (rank == 0).all()
    assert of(np.zeros((9, 9)), np.arange(9))["top5"].value == pytest.approx(5 / 9)


def test_a_class_without_a_vote_is_never_among_the_first_five():
    votes = np.zeros((3, 9))
    votes[:, 7] = 1.0
    found = of(votes, [7, 0, 8], "votes")  # classes 0 to 3 are next in order, without a vote
    assert found["top5"].value == pytest.approx(1 / 3)
    assert of(votes, [7, 0, 8], "regression")["top5"].value == pytest.approx(2 / 3)


def test_votes_are_divided_by_their_sum():
    votes = RNG.random((400, 8)).astype(np.float32) * RNG.choice([1e-3, 1, 1e3], size=(400, 1))
    labels = RNG.integers(8, size=400)
    probabilities = votes.astype(float) / votes.astype(float).sum(1, keepdims=True)
    found = of(votes, labels, "votes")
    assert found["nll"].value == pytest.approx(
        log_loss(labels, probabilities, labels=np.arange(8)), rel=1e-12
    )
    assert found["ece"].value == pytest.approx(guo(probabilities, labels), abs=1e-12)


def test_an_nll_that_is_infinite_is_not_stated_and_never_clipped():
    found = of([[1.0, 0.0], [0.5, 0.5], [1.0, 0.0]], [0, 1, 1], "votes")
    assert found["nll"].value is None
    assert found["nll"].note == "infinite: the label has probability zero on 1 of 3 images"
    assert found["ece"].value == pytest.approx((0.5 + 1) / 3)


def test_a_class_that_no_example_was_fitted_to_has_probability_zero():
    """logistic_probe gives it a bias of -1e30: a finite number, but it stands for minus infinity."""
    found = of([[1.0, 2.0, -1e30], [1.0, 2.0, -1e30]], [1, 2])
    assert found["nll"].note == "infinite: the label has probability zero on 1 of 2 images"
    without = of([[1.0, 2.0, -1e30], [1.0, 2.0, -1e30]], [1, 0])
    assert without["nll"].value == pytest.approx(-log_softmax([1.0, 2.0])[::-1].mean())


def test_large_logits_neither_overflow_nor_count_as_impossible():
    found = of([[0.0, 5000.0], [1e20, 0.0]], [0, 0])
    assert found["nll"].value == pytest.approx(2500)
    assert found["ece"].value == pytest.approx(0.5)


def test_ridge_has_no_probabilities_and_a_plugin_that_says_nothing_neither():
    for kind in ("regression", "unknown"):
        found = of(*drawn(), kind)
        assert found["nll"].value is found["ece"].value is None
        assert found["nll"].note == found["ece"].note == class_scores.NO_PROBABILITIES[kind]
        assert found["top5"].value is not None


def test_votes_that_are_none_are_said_to_be():
    found = of([[1.0, -1.0], [0.0, 0.0], [1.0, 1.0]], [0, 0, 0], "votes")
    assert found["nll"].note == found["ece"].note == "the votes on 2 of 3 images are negative or all zero"


def test_classes_without_a_test_image_are_left_out_and_said():
    labels = np.array([0, 0, 0, 2])
    scores = np.eye(4)[[0, 0, 1, 2]]
    found = of(scores, labels)["mean_per_class"]
    assert found.value == pytest.approx((2 / 3 + 1) / 2) == balanced(labels, scores.argmax(1))
    assert found.note == "2 of 4 classes have no test image and are left out"
    assert of(scores, [0, 1, 2, 3])["mean_per_class"].note == ""


@pytest.mark.parametrize("i", range(1, 16))
def test_a_confidence_on_an_edge_belongs_to_the_bin_below(i):
    """Together with one just below it, a right and a wrong answer nearly cancel; one above is in a bin of its own."""
    edge = np.linspace(0, 1, 16)[i]
    below, above = np.nextafter(edge, 0), np.nextafter(edge, 2)
    right = np.array([True, False])
    assert ece(np.array([below, edge]), right, "votes").value == pytest.approx(abs(1 - 2 * edge) / 2)
    if i < 15:
        assert ece(np.array([edge, above]), right, "votes").value == pytest.approx(0.5)
    assert of([[1.0, 0.0]], [0], "votes")["ece"].value == 0
    assert of([[1.0, 0.0]], [1], "votes")["ece"].value == 1


@pytest.mark.parametrize("classes", [2, 12])
def test_bins_are_those_of_scikit_learns_calibration_curve(classes):
    scores, labels = drawn(900, classes)
    metric = of(scores, labels)["ece"]
    probabilities = softmax(scores.astype(np.float64), axis=1)
    right, confidence = scores.argmax(1) == labels, probabilities.max(1)
    true, predicted = calibration_curve(right, confidence, n_bins=15, strategy="uniform")
    filled = [own for own in metric.bins if own[0]]
    assert [correct / images for images, _, correct in filled] == pytest.approx(true)
    assert [mean for _, mean, _ in filled] == pytest.approx(predicted)
    images, _ = np.histogram(confidence, np.linspace(0, 1, 16))
    assert [own[0] for own in metric.bins] == images.tolist()
    gaps = [abs(correct - images * mean) for images, mean, correct in metric.bins]
    assert metric.value == pytest.approx(sum(gaps) / 900)
    assert of(scores, labels)["nll"].bins == ()


@pytest.mark.parametrize("kind", ["logits", "votes", "regression"])
def test_no_value_depends_on_blocks(monkeypatch, kind):
    scores, labels = drawn(700, 30)
    scores = np.abs(scores) if kind == "votes" else scores
    whole = of(scores, labels, kind)
    for size in (1, 7, 499, 700):
        parts = [reduce_scores(scores[i : i + size], labels[i : i + size], kind) for i in range(0, 700, size)]
        joined = further_metrics(ImageScores.joined(parts), scores.argmax(1) == labels, labels, 30, kind)
        assert joined == whole
    monkeypatch.setattr(class_scores, "ELEMENTS_PER_BLOCK", 90)
    assert of(np.asfortranarray(scores), labels, kind) == whole


SCORES = arrays.arrays(
    np.float64,
    st.tuples(st.integers(1, 12), st.integers(2, 9)),
    elements=st.floats(-1e6, 1e6) | st.sampled_from([0.0, 1.0, -1e30, 5e-324]),
)


@given(SCORES, st.data())
def test_whatever_the_scores_the_values_are_possible(scores, data):
    n, classes = scores.shape
    labels = np.array(data.draw(st.lists(st.integers(0, classes - 1), min_size=n, max_size=n)))
    counted = data.draw(st.sampled_from(["logits", "regression", "votes"]))
    found = of(scores, labels, counted)
    right = (scores.argmax(1) == labels).mean()
    assert 0 <= found["mean_per_class"].value <= 1
    if found["top5"].value is not None:
        if counted != "votes":
            assert right <= found["top5"].value <= 1
        assert found["top5"].ci_low <= found["top5"].value <= found["top5"].ci_high
    for name, most in (("ece", 1), ("nll", math.inf)):
        assert (found[name].value is None) == bool(found[name].note)
        assert found[name].value is None or 0 <= found[name].value <= most
    if found["nll"].value is not None:
        assert found["nll"].value >= math.log(2) * (1 - right) - 1e-9


@given(SCORES, st.floats(-1e3, 1e3))
def test_a_constant_added_to_logits_changes_no_prediction_and_hardly_a_value(scores, shift):
    scores = np.clip(scores, -1e3, 1e3)
    labels = scores.argmax(1)
    one, two = of(scores, labels), of(scores.astype(np.float64) + shift, labels)
    assert one["nll"].value == pytest.approx(two["nll"].value, abs=1e-9)


@given(SCORES)
def test_kept_scores_keep_their_order(scores):
    for kind in ("logits", "regression"):
        kept = to_keep(scores, kind)
        assert kept.dtype == np.float16
        assert (np.take_along_axis(kept, scores.argmax(1)[:, None], 1)[:, 0] == kept.max(1)).all()
        assert not np.isnan(kept).any()
        ordered = np.take_along_axis(kept, np.argsort(scores, axis=1, kind="stable"), 1)
        assert (ordered[:, 1:] >= ordered[:, :-1]).all()


def test_kept_logits_give_the_same_probabilities():
    scores, labels = drawn(500, 12)
    kept = to_keep(scores + 1000, "logits").astype(np.float64)
    wanted, found = of(scores + 1000, labels), of(kept, labels)
    assert found["nll"].value == pytest.approx(wanted["nll"].value, rel=1e-3)
    assert found["ece"].value == pytest.approx(wanted["ece"].value, abs=5e-3)
    assert to_keep(np.array([[1e6, -1e6]]), "unknown").tolist() == [[65504.0, -65504.0]]
    assert to_keep(np.array([[0.0, -1e30]]), "logits").tolist() == [[0.0, -math.inf]]


def test_titles():
    assert (title_of("mean_per_class"), title_of("my own")) == ("mean per class", "my own")
