"""Intervals and p-values that scripts of the page compute, against Python's: of ticked tasks, and of backbones in pairs."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from selenium.webdriver.common.by import By

from tests.making.boards import made
from tests.making.chromium import MARKS, complaints, panel, started
from vitbench.core.record import Metric
from vitbench.core.wilson import wilson
from vitbench.report.build import boards
from vitbench.report.compare import compare
from vitbench.report.outcomes import predictions_of
from vitbench.report.page import Extras, render
from vitbench.report.statistics import Estimate, combined, holm
from vitbench.store.run_dir import RunDir

pytestmark = MARKS
LEVELS = {"x": 0.5, "y": 0.56, "z": 0.6}
TASKS = ("a", "b", "c")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    driver = started(tmp_path_factory.mktemp("chromium"))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_records):
    """A run directory of three backbones on three tasks with three seeds, with predictions; and its records."""
    place, generator = tmp_path_factory.mktemp("run"), np.random.default_rng(3)
    difficulty = {task: generator.random(300) for task in TASKS}
    found = []
    for name, level in LEVELS.items():
        for task in TASKS:
            for seed in range(3):
                right = 0.7 * difficulty[task] + 0.3 * generator.random(300) < level
                low, high = wilson(int(right.sum()), 300)
                record = made(tiny_records[0], name, task, seed, 0.5, tasks=TASKS)
                metrics = {"top1": Metric(value=right.mean(), ci_low=low, ci_high=high, n=300)}
                data = record.data.model_copy(update={"n_test": 300})
                rows = pd.DataFrame({"index": np.arange(300), "top1_correct": right.astype(float)})
                record = record.model_copy(update={"metrics": metrics, "data": data})
                found.append(RunDir(place).write(record, rows))
    return place, found


@pytest.fixture(params=[True, False], ids=["with predictions", "records alone"])
def known_images(request):
    return request.param


@pytest.fixture
def opened(browser, run, known_images, tmp_path):
    place, records = run
    page = tmp_path / "report.html"
    page.write_text(
        render(records, Extras(predictions=predictions_of([place], records) if known_images else None))
    )
    browser.get(page.as_uri())
    yield browser
    assert complaints(browser) == []


def untick(browser, task):
    browser.execute_script("for (const d of document.querySelectorAll('.ticks')) d.open = true")
    panel(browser).find_element(By.CSS_SELECTOR, f".ticks input[data-task='{task}']").click()


ENDS = """
const found = {};
for (const row of document.querySelectorAll(".panel:not([hidden]) .board tbody tr")) {
  const { low, high } = row.querySelector("td[data-mean=all]").dataset;
  found[row.querySelector(".name").textContent] = [Number(low), Number(high)];
}
return found;
"""


@pytest.mark.parametrize("off", [("c",), ("b", "c")])
def test_means_of_ticked_tasks_have_the_intervals_of_python(opened, run, known_images, off):
    place, records = run
    (board,) = boards(records, predictions=predictions_of([place], records) if known_images else None)
    for task in off:
        untick(opened, task)
    kept = [i for i, column in enumerate(board.columns) if column.task not in off]
    shown = opened.execute_script(ENDS)
    for row in board.rows:
        wanted = row.interval_of(kept)
        assert shown[row.backbone] == pytest.approx((wanted.low, wanted.high), abs=1e-4)
    first = panel(opened).find_element(By.CSS_SELECTOR, "tbody td.mean .range").text
    assert "–" in first


def compared(browser, first, second):
    """By task: the difference, the ends of its interval and p, as the dialog has them."""
    browser.execute_script(
        "view.commit((state) => { state.pair = new Set([arguments[0], arguments[1]]); state.compared = true; })"
        .replace("arguments", "given").join(["const given = arguments; ", ""]),
        first, second,
    )  # fmt: skip
    lines = browser.find_elements(By.CSS_SELECTOR, "#comparison tbody tr")
    found = {
        line.find_element(By.TAG_NAME, "th").text: line.find_elements(By.TAG_NAME, "td")[-1].text
        for line in lines
    }
    browser.execute_script("view.commit((state) => { state.pair.clear(); state.compared = false; })")
    return found


def written(value, low, high, p):
    points = lambda share: f"{100 * share:+.1f}".replace("-", "−").replace("+0.0", "0.0")  # noqa: E731
    said = "< 0.001" if p < 0.001 else f"= {p:.3f}"
    return f"{points(value)}\n{points(low)} to {points(high)}, p {said}"


def test_pairs_have_the_intervals_of_compare(opened, run, known_images):
    place, records = run
    (board,) = boards(records)
    for one, two in combinations(board.rows, 2):
        shown = compared(opened, one.backbone, two.backbone)
        if known_images:
            found = compare([place], one.backbone, two.backbone)
            wanted = {row.task: (row.gap.value, row.gap.low, row.gap.high, row.p_holm) for row in found.cells}
            (mean,) = found.means
            wanted["Mean"] = (mean.gap.value, mean.gap.low, mean.gap.high, mean.p)
        else:
            gaps = [
                combined([b.estimate, a.estimate], [1, -1]) for a, b in zip(one.cells, two.cells, strict=True)
            ]
            ps = holm([gap.p for gap in gaps])
            ends = [(gap.interval.value, gap.interval.low, gap.interval.high) for gap in gaps]
            wanted = {c.task: (*end, p) for c, end, p in zip(board.columns, ends, ps, strict=True)}
        for task, values in wanted.items():
            assert shown[task] == written(*values), task
        hint = opened.find_element(By.CSS_SELECTOR, "#comparison .hint").get_attribute("textContent")
        assert ("≥ 95 %" in hint) != known_images


def test_the_mean_in_pairs_is_over_the_ticked_tasks(opened, run):
    _, records = run
    (board,) = boards(records)
    one, two = board.rows[:2]
    untick(opened, "c")
    gap = two.mean_of([0, 1]) - one.mean_of([0, 1])
    value, rest = compared(opened, one.backbone, two.backbone)["Mean"].split("\n")
    assert value == written(gap, 0, 0, 1).split("\n")[0]
    assert " to " in rest


@pytest.mark.parametrize(
    "parts",
    [(0.01, 1e-4, 1e-9, 0.0, 0.0), (0.01, 2e-5, 1e-13, 3e-5, 4.5e-10), (0.02, 0.0, 0.0, 4e-5, 8e-10), (0.5, 1e-3, 0, 0, 0)],
)  # fmt: skip
def test_student_s_t_is_that_of_scipy(opened, parts):
    mean, images, image_noise, seeds, seed_noise = parts
    own = Estimate(mean, images, image_noise, seeds, seed_noise)
    low, high, p = opened.execute_script(
        "const own = estimates.ofParts(arguments[0]); return [...estimates.interval(own), estimates.p(own)]",
        list(parts),
    )
    assert (low, high) == pytest.approx((own.interval.low, own.interval.high), rel=1e-3)
    assert p == pytest.approx(max(own.p, 2e-9), rel=0.01)
