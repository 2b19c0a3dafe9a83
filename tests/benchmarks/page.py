"""The page: `python tests/benchmarks/page.py [--records 10000]`. What it takes to make, and to work with in Chromium.

A board of 500 rows and 30 columns sorts and filters in under 100 ms; a page of 10,000 records is made in under 10 s.
Medians of several; needs Chromium (apt-get install chromium chromium-driver).
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
import vitbench
from tests.making.boards import board, with_all_that_a_record_can_hold
from tests.making.chromium import started
from vitbench.core.record import Record
from vitbench.report.page import render

ROWS, COLUMNS, TIMES = 500, 30, 9
SORT = """
const heads = [...document.querySelectorAll(".board thead tr:last-child button")];
const times = [];
for (let i = 0; i < arguments[0]; i++) {
  const begun = performance.now();
  heads[2 + (i % 10)].click();
  document.body.offsetHeight;  // what follows from it is laid out too
  times.push(performance.now() - begun);
}
return times;
"""
FILTER = """
const box = document.getElementById("filter");
const times = [];
for (let i = 0; i < arguments[0]; i++) {
  box.value = i % 2 ? "" : "net_1";
  const begun = performance.now();
  box.dispatchEvent(new Event("input", { bubbles: true }));
  document.body.offsetHeight;
  times.push(performance.now() - begun);
}
return times;
"""


def model(place: Path) -> Record:
    """A real record to make others of."""
    suite = place / "s.yaml"
    suite.write_text(
        "name: s\nbackbones: [{name: raw_pixels, size_px: 8}]\ntasks: [digits]\nprotocols: [ridge_probe]\n"
    )
    return vitbench.run(suite, place / "run")[0]


def made(base: Record, rows: int, columns: int, seeds: int) -> str:
    """A page, and what it took."""
    records = board(
        base, [f"net_{i}.weights" for i in range(rows)], [f"task {i}" for i in range(columns)], seeds
    )
    records = [with_all_that_a_record_can_hold(record) for record in records]
    taken = []
    for _ in range(3):
        begun = time.perf_counter()
        page = render(records)
        taken.append(time.perf_counter() - begun)
    size = f"{len(records)} records, {rows} rows x {columns} columns"
    print(f"{size}: made in {statistics.median(taken):.2f} s, {len(page) / 1e6:.2f} MB")
    return page


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--records", type=int, default=10_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        base = model(place)
        made(base, 20, 25, 3)
        made(base, 100, 25, max(options.records // 2500, 1))
        page = place / "page.html"
        page.write_text(made(base, ROWS, COLUMNS - 8, 1))  # eight columns are means, costs and the like
        browser = started(place / "profile")
        try:
            begun = time.perf_counter()
            browser.get(page.as_uri())
            print(f"loaded in {time.perf_counter() - begun:.1f} s")
            for what in ("as it opens", "all rows shown"):
                for verb, script in (("sort", SORT), ("filter", FILTER)):
                    times = browser.execute_script(script, TIMES)
                    median, longest = statistics.median(times), max(times)
                    print(f"{what}: {verb} {median:.0f} ms, at most {longest:.0f} (target 100)")
                browser.execute_script("document.getElementById('more').click()")
        finally:
            browser.quit()


if __name__ == "__main__":
    main()
