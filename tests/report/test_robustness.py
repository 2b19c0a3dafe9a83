"""The robustness view: a table and a chart of accuracy on further test sets, for rows that filters leave."""

import pytest
from selenium.webdriver.common.by import By

from tests.making.chromium import MARKS, complaints, started
from tests.making.further_sets import SUITE, on_imagenet, three_sets
from vitbench import load_records, run
from vitbench.report.build import boards
from vitbench.report.charts import CHARTS
from vitbench.report.charts.families import Families
from vitbench.report.outcomes import Predictions
from vitbench.report.page import render
from vitbench.report.robustness import robustness
from vitbench.report.tidy import tidy

SHOWN = {"ViT-B/16": (0.84, 0.02, "ViT"), "R50x1": (0.80, 0.0, "BiT"), "EVA-L": (0.89, 0.05, "ViT")}


@pytest.fixture
def records(tiny_records):
    return [on_imagenet(tiny_records[0], name, *facts) for name, facts in SHOWN.items()]


def test_effective_robustness_is_what_a_network_has_above_the_line(records):
    (board,) = boards(records)
    (table,) = robustness(board, records)
    assert (table.task, table.sets, table.partial) == ("imagenet", ("v2", "r", "c"), (False, True, False))
    assert [one.row.backbone for one in table.rows] == ["EVA-L", "ViT-B/16", "R50x1"]
    for one in table.rows:
        accuracy, above, _ = SHOWN[one.row.backbone]
        assert [shift.effective for shift in one.shifts] == pytest.approx([above] * 3, abs=1e-4)
        assert [shift.inside for shift in one.shifts] == pytest.approx([accuracy, accuracy + 0.08, accuracy])
        assert one.shifts[2].relative_error == pytest.approx(0.7 - above)
        assert [shift.extrapolated for shift in one.shifts] == [
            accuracy > 0.85,
            accuracy > 0.885,
            accuracy > 0.85,
        ]


def test_sets_are_columns_that_no_mean_counts(records):
    (board,) = boards(records)
    assert [(column.label, column.counted) for column in board.columns] == [
        ("imagenet", True), ("imagenet · v2", False), ("imagenet · r", False), ("imagenet · c", False)
    ]  # fmt: skip
    assert board.rows[0].mean == pytest.approx(0.89)
    assert set(tidy(records)["metric"]) >= {"top1", "v2", "r", "c"}


def test_boards_without_test_sets_have_no_such_view(tiny_records):
    (board, *_) = boards(tiny_records)
    assert robustness(board, tiny_records) == []
    assert "further test sets" not in render(tiny_records)


def test_the_chart_is_drawn_as_a_file_too(records):
    (board,) = boards(records)
    chart = next(chart for chart in CHARTS if chart.name == "robustness")
    (drawing,) = chart.draw([board], records, Families(["ViT", "BiT"]))
    panels = drawing.spec.to_dict()["concat"]
    assert [panel["title"] for panel in panels] == ["v2", "r", "c"]
    (points,) = [chart.points([board], records)]
    assert len(points["panels"][0]["standard"]) == 85
    assert points["panels"][0]["line"][0][0] == pytest.approx(0.5652, abs=1e-4)


def test_images_of_a_further_set_are_compared_as_such(tmp_path):
    three_sets(tmp_path)
    suite = tmp_path / "suite.yaml"
    two = "[{name: raw_pixels, size_px: 8}, {name: raw_pixels, size_px: 4, label: small}]"
    suite.write_text(SUITE.format(root=tmp_path).replace("[{name: raw_pixels, size_px: 8}]", two))
    run(suite, tmp_path / "run")
    records = load_records(tmp_path / "run")
    predictions = Predictions([tmp_path / "run"])
    for record in records:
        for name, facts in record.test_sets.items():
            correct = predictions.correct(record, name)
            assert len(correct) == facts.n
            assert correct.mean() == record.metrics[name].value
    (board,) = boards(records, predictions=predictions)
    assert all(cell.known_images for row in board.rows for cell in row.cells)


# ---------------------------------------------------------------- in a browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    driver = started(tmp_path_factory.mktemp("chromium"))
    yield driver
    driver.quit()


@MARKS[0]
@MARKS[1]
def test_the_page_shows_it_and_filters_it(browser, tmp_path, records):
    path = tmp_path / "report.html"
    path.write_text(render(records))
    for width in (1440, 390):
        browser.set_window_size(width, 900)
        browser.get(path.as_uri())
        assert complaints(browser) == []
        assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    figure = browser.find_element(By.CSS_SELECTOR, "figure[data-chart=robustness]")
    assert len(figure.find_elements(By.CSS_SELECTOR, ".panel-title")) == 3
    assert len(figure.find_elements(By.CSS_SELECTOR, "g.point")) == 9
    titles = [
        title.get_attribute("textContent") for title in figure.find_elements(By.CSS_SELECTOR, "g.point title")
    ]
    assert any(
        title.startswith("ViT-B/16: ") and "effective robustness 2.0 points" in title for title in titles
    )
    table = browser.find_element(By.CSS_SELECTOR, "table.robust")
    assert "+5.0‡" in table.text
    browser.find_element(By.ID, "filter").send_keys("R50")
    browser.execute_script("return new Promise(done => requestAnimationFrame(() => setTimeout(done, 300)))")
    assert len(figure.find_elements(By.CSS_SELECTOR, "g.point")) == 3
    assert "EVA-L" not in table.text
