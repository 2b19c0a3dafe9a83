"""The metric that a board shows: what its suite asks for, never two in one column, and never silently another."""

import pytest

import vitbench
from tests.making.command import vitbench as command
from vitbench.core.errors import UsageError
from vitbench.core.record import FurtherMetric
from vitbench.report.build import boards
from vitbench.report.export import latex, markdown, terminal
from vitbench.report.page import render
from vitbench.report.shown_metric import MADE_EARLIER, asked_metrics
from vitbench.report.tidy import tidy
from vitbench.store.record_file import load
from vitbench.suite import expand, read_suite

SUITE = """\
name: clip
metric: mean_per_class
preprocess: squash
backbones: [{name: raw_pixels, size_px: 8}]
tasks: [photo_regions, {name: digits, metric: top5}]
protocols: [knn]
"""


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    (folder / "clip.yaml").write_text(SUITE)
    return vitbench.run(folder / "clip.yaml", folder / "run")


def asking(record, metric, suite="other", **changes):
    context = record.job.suite.model_copy(update={"metric": metric, "name": suite, **changes})
    return record.model_copy(update={"job": record.job.model_copy(update={"suite": context})})


def without(record):
    return record.model_copy(update={"further": {}})


def test_each_column_shows_what_its_suite_asks_for(records):
    (board,) = boards(records)
    assert [column.label for column in board.columns] == ["photo_regions · mean per class", "digits · top-5"]
    values = {record.job.task.label: record.further for record in records}
    regions, digits = board.rows[0].cells
    assert regions.value == values["photo_regions"]["mean_per_class"].value
    assert (regions.ci_low, regions.ci_high) == (None, None)
    assert digits.value == values["digits"]["top5"].value
    assert digits.ci_low == values["digits"]["top5"].ci_low
    assert board.rows[0].mean == (regions.value + digits.value) / 2
    assert board.notes == []
    for text in (markdown(board), latex(board), terminal([board])):
        assert "photo" in text
        assert "mean per class" in text


def test_asking_for_the_tasks_own_metric_changes_nothing(records):
    plain, asked = (boards([asking(record, metric, "x") for record in records]) for metric in ("", "top1"))
    assert plain == asked


def test_the_page_says_which_metric_it_shows(records):
    page = render(records)
    assert "Accuracy in percent: " in page
    assert "no interval known" in page
    alone = [asking(r, "mean_per_class", tasks=(r.job.task.label,)) for r in records[:1]]
    assert "Mean per class accuracy in percent: " in render(alone)
    assert "Top-1 accuracy in percent: " in render([asking(r, "") for r in records])


def test_records_without_the_metric_say_so_and_have_no_mean(records):
    old = [without(record) for record in records]
    (board,) = boards(old)
    regions, digits = board.rows[0].cells
    assert (regions.value, regions.lacking) == (None, f"no mean per class: {MADE_EARLIER}")
    assert digits.lacking == f"no top-5: {MADE_EARLIER}"
    assert (board.rows[0].mean, board.rows[0].rank) == (None, None)
    for text in (markdown(board), latex(board), terminal([board])):
        assert "no value" in text
        assert f"no mean per class: {MADE_EARLIER}" in text.replace("\\", "")
    page = render(old)
    assert page.count("no value</button>") == 2
    assert f"photo_regions: no mean per class: {MADE_EARLIER}" in page


def test_the_reason_of_a_record_is_said(records):
    absent = {"mean_per_class": FurtherMetric(n=0, note="the task is scored by real")}
    (board,) = boards([record.model_copy(update={"further": absent}) for record in records])
    assert board.rows[0].cells[0].lacking == "no mean per class: the task is scored by real"


def test_suites_that_disagree_show_the_tasks_own_metric_and_say_so(records):
    (record,) = (record for record in records if record.job.task.label == "digits")
    other = asking(record, "mean_per_class").model_copy(update={"key": "0" * 24})
    assert asked_metrics([record, other])["digits"][0] == ""
    (board,) = boards([record, other])
    assert board.columns[0].label == "digits"
    assert board.notes == [
        "digits: shown by its own metric, as suites disagree: top-5 in clip, mean per class in other"
    ]
    assert board.rows[0].cells[0].by_seed == (record.metrics["top1"].value,) * 2
    assert board.notes[0] in render([record, other])


def test_a_published_value_is_compared_with_its_own_metric_only(records):
    (board,) = boards(records)
    assert [column.dataset for column in board.columns] == ["", ""]


def test_old_records_make_the_boards_that_they_made(records):
    old = [without(asking(record, "")) for record in records]
    assert boards(old) == boards([asking(record, "") for record in records])
    assert set(tidy(old)["metric"]) == {"top1"}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            "metric: mean_per_clas",
            "suite.yaml:2: metric: unknown metric 'mean_per_clas'; did you mean mean_per_class",
        ),
        (
            "metric: nll",
            "suite.yaml:2: metric: 'nll' is not an accuracy: a board ranks by one of top1, top5, mean_per_class",
        ),
        ("metric: 5", "suite.yaml:2: metric: unknown metric 5"),
        ("metric: [top1]", "suite.yaml:2: metric: unknown metric"),
    ],
)
def test_a_mistake_has_the_nearest_name_and_the_line(suite_file, line, said):
    with pytest.raises(UsageError) as error:
        expand(read_suite(suite_file(SUITE.replace("metric: mean_per_class", line))))
    assert said in str(error.value)


def test_a_mistake_in_a_task_has_its_line(suite_file):
    with pytest.raises(UsageError) as error:
        expand(read_suite(suite_file(SUITE.replace("top5", "topp5"))))
    assert "suite.yaml:5: tasks.1.metric: unknown metric 'topp5'; did you mean top5" in str(error.value)


def test_the_lock_file_asks_for_the_same_metrics_and_keys_do_not_depend_on_them(suite_file):
    first = expand(read_suite(suite_file(SUITE)))
    again = expand(read_suite(suite_file(first.lock, "again.yaml")))
    assert again.jobs == first.jobs
    assert [job.suite.metric for job in first.jobs] == ["mean_per_class", "top5"]
    plain = expand(read_suite(suite_file(SUITE.replace("metric: mean_per_class\n", ""))))
    assert [job.key for job in plain.jobs] == [job.key for job in first.jobs]
    assert plain.jobs[0].suite.metric == ""


def test_a_finished_run_is_shown_by_another_metric_without_running(suite_file, tmp_path):
    suite = suite_file(SUITE)
    vitbench.run(suite, tmp_path / "run")
    done = command("run", suite, "--out", tmp_path / "run", "--set", "metric=top5")
    assert "photo_regions · top-5" in done.stdout
    assert {record.job.suite.metric for record in load(tmp_path / "run")} == {"top5"}
    assert len(list((tmp_path / "run" / "logs").iterdir())) == 2
