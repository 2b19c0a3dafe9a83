"""Trials of a swept hyper-parameter: one point each."""

from vitbench.report.charts.families import Families
from vitbench.report.charts.trials import TRIALS, trial_points


def test_trials_of_a_swept_learning_rate(vtab_records):
    points = trial_points(vtab_records)
    assert len(points) == 4 * len(vtab_records)
    assert set(points["option"]) == {"base_lr"}
    assert set(points[points["chosen"]]["setting"]) == {0.03}
    assert [drawing.variant for drawing in TRIALS.draw([], vtab_records, Families([]))] == ["base_lr"]


def test_without_a_sweep_there_is_no_chart(tiny_records):
    assert (
        TRIALS.draw([], [record.model_copy(update={"trials": ()}) for record in tiny_records], Families([]))
        == []
    )
