"""The page: `python tests/benchmarks/page.py [--records 10000]`. What it takes to make, and to work with in Chromium.

A board of 500 backbones on VTAB's 19 tasks has at most 4 MB, opens in 1.5 s, and answers in 100 ms.
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
from selenium.webdriver.remote.webdriver import WebDriver

import vitbench
from tests.making.boards import VTAB, board, with_all_that_a_record_can_hold
from tests.making.chromium import started
from vitbench.core.record import Record
from vitbench.report.page import render

ROWS, TIMES = 500, 9
MOST_MB, MOST_OPEN_S, MOST_MS = 4, 1.5, 100
# What a reader does, each as often as given; the time until what follows is laid out.
ACTIONS = """
const [name, count] = arguments;
const each = (selector) => [...document.querySelectorAll(`.panel:not([hidden]) ${selector}`)];
const box = document.getElementById("filter");
const actions = {
  sort: (i) => each(".board thead th[data-key] > button:not(.fold)").filter((b) => b.checkVisibility())[2 + (i % 6)].click(),
  filter: (i) => { box.value = "net_1".slice(0, 1 + (i % 5)); box.dispatchEvent(new Event("input", { bubbles: true })); },
  tick: (i) => each(".ticks input")[i % 19].click(),
  fold: () => each("[data-fold-of]")[0].click(),
  scroll: (i) => { each(".scroll")[0].scrollTop = 1500 * (i + 1); each(".scroll")[0].dispatchEvent(new Event("scroll")); },
  transpose: () => document.getElementById("across").click(),
  cost: (i) => each("[data-cost]")[i % 2].click(),
};
const times = [];
for (let i = 0; i < count; i++) {
  const begun = performance.now();
  actions[name](i);
  document.body.offsetHeight;
  times.push(performance.now() - begun);
}
return [Object.keys(actions), times];
"""


OPENED = "const [t] = performance.getEntriesByType('navigation'); return t.loadEventEnd - t.startTime"


def model(place: Path) -> Record:
    """A real record to make others of."""
    suite = place / "s.yaml"
    suite.write_text(
        "name: s\nbackbones: [{name: raw_pixels, size_px: 8}]\ntasks: [digits]\nprotocols: [ridge_probe]\n"
    )
    return vitbench.run(suite, place / "run")[0]


def made(base: Record, rows: int, tasks: tuple[str, ...], seeds: int) -> str:
    """A page, and what it took."""
    records = board(base, [f"net_{i}.weights" for i in range(rows)], tasks, seeds)
    records = [with_all_that_a_record_can_hold(record) for record in records]
    taken = []
    for _ in range(3):
        begun = time.perf_counter()
        page = render(records)
        taken.append(time.perf_counter() - begun)
    size = f"{len(records)} records, {rows} rows x {len(tasks)} tasks"
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
        made(base, 20, tuple(VTAB), 3)
        made(base, 100, tuple(VTAB), max(options.records // 1900, 1))
        page = place / "page.html"
        page.write_text(made(base, ROWS, tuple(VTAB), 1))
        print(f"{page.stat().st_size / 1e6:.2f} MB (target {MOST_MB})")
        browser = started(place / "profile")
        try:
            measure(browser, page.as_uri())
        finally:
            browser.quit()


def measure(browser: WebDriver, address: str) -> None:
    """Print how long the page takes to open, and each action."""
    opened = []
    for _ in range(5):
        browser.get("about:blank")
        browser.get(address)
        opened.append(browser.execute_script(OPENED) / 1000)
    print(f"opened in {statistics.median(opened):.2f} s (target {MOST_OPEN_S})")
    names, _ = browser.execute_script(ACTIONS, "sort", 0)
    for name in names:
        _, times = browser.execute_script(ACTIONS, name, TIMES)
        print(f"{name}: {statistics.median(times):.0f} ms, at most {max(times):.0f} (target {MOST_MS})")
        browser.get("about:blank")
        browser.get(address)


if __name__ == "__main__":
    main()
