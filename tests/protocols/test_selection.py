"""Tests of selection from a grid: highest score, ties by a stated rule, one trial per value."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitbench.protocols.selection import select


@pytest.mark.parametrize(("ties", "wanted"), [("smaller", 2.0), ("larger", 8.0)])
def test_ties_go_to_the_smaller_or_larger_value_as_asked(ties, wanted):
    value, trials = select("l2", (4.0, 2.0, 8.0, 1.0), (0.5, 0.5, 0.5, 0.4), ties=ties)
    assert value == wanted
    assert [trial.options["l2"] for trial in trials if trial.chosen] == [wanted]


@given(
    st.lists(
        st.tuples(st.integers(0, 50), st.sampled_from([0.1, 0.2, 0.3])), min_size=1, unique_by=lambda p: p[0]
    )
)
def test_exactly_one_trial_is_chosen_with_the_highest_score(pairs):
    grid, scores = zip(*pairs, strict=True)
    value, trials = select("k", grid, scores, ties="smaller", split="train", metric="m")
    (chosen,) = [trial for trial in trials if trial.chosen]
    assert (chosen.options["k"], chosen.value) == (value, max(scores))
    assert value == min(k for k, score in pairs if score == max(scores))
    assert [(t.options["k"], t.value, t.split, t.metric) for t in trials] == [
        (*p, "train", "m") for p in pairs
    ]
