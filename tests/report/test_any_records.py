"""Of whatever records the schema allows a board can be made, whose every part can be read again."""

import csv
import json
import tempfile
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings

from tests.making.any_record import records
from tests.making.bad_input import FAST, handled
from vitbench.report.export import FORMATS
from vitbench.report.keys import newest
from vitbench.store.record_file import load
from vitbench.store.run_dir import RunDir


class Page(HTMLParser):
    """The elements of a page, the text of its scripts, and the cells that open a dialog."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.scripts, self.handlers, self.opened = [], [], [], set()
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.handlers += [name for name, _ in attributes if name.startswith("on")]
        self.opened |= {value for name, value in attributes if name == "data-cell"}

    def handle_data(self, data):
        if self.cdata_elem == "script":
            self.scripts.append(data)


def not_json(constant):
    raise AssertionError(f"{constant} is not JSON")


def strict(text):
    return json.loads(text, parse_constant=not_json)


def scores(found):
    """(key, value) of every metric, and (key, None) of a record without one."""
    pairs = [(r.key, m.value) for r in found for m in r.metrics.values()]
    return sorted(pairs + [(r.key, None) for r in found if not r.metrics], key=repr)


def check_page(text, found):
    page = Page(text)
    assert page.tags.count("script") == 2
    assert not page.handlers
    assert not {"iframe", "img", "object", "embed", "base"} & set(page.tags)
    details, _ = page.scripts
    cells = strict(details)["cells"]
    seeds = {seed["key"]: seed for cell in cells.values() for seed in cell["seeds"]}
    assert seeds.keys() == {record.key for record in found}
    told = {name for name, cell in cells.items() if any(s["scores"] or "failure" in s for s in cell["seeds"])}
    assert page.opened == told
    for record in found:
        shown = [value for _, value, *_ in seeds[record.key]["scores"]]
        assert shown == [round(metric.value, 5) for metric in record.metrics.values()]


def check_exports(run, found):
    wanted, table = scores(found), {}
    for form in FORMATS:
        code, _, err = handled("export", run, "--format", form, "-o", run / form)
        assert code == 0, err
        table[form] = run / form
    with table["csv"].open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert scores_of(rows) == wanted
    assert len(pd.read_csv(table["csv"], keep_default_na=False)) == len(rows)
    assert scores_of(strict(table["json"].read_text(encoding="utf-8"))) == wanted
    assert scores_of(pq.read_table(table["parquet"]).to_pylist()) == wanted


def scores_of(rows):
    return sorted(
        ((row["key"], None if row["value"] in (None, "") else float(row["value"])) for row in rows), key=repr
    )


def check_board(found):
    with tempfile.TemporaryDirectory() as name:
        run = RunDir(Path(name))
        for record in found:
            run.write(record)
        assert {r.key: r for r in load(run.path)} == {r.key: r for r in found}
        code, _, err = handled("report", run.path)
        assert code == 0, err
        shown = newest(found)
        check_page(run.report_path.read_text(encoding="utf-8"), shown)
        check_exports(run.path, shown)


@pytest.mark.slow
@settings(FAST, max_examples=30)
@given(records())
def test_a_board_of_any_records(found):
    check_board(found)


@pytest.mark.slow
@settings(FAST, max_examples=150)
@given(records(most=8))
def test_a_board_of_many_more_records(found):
    check_board(found)
