"""axe-core on a page that is open in a browser, and its targets of less than 24 pixels (WCAG 2.5.8)."""

from pathlib import Path

import axe_core_python

AXE = Path(axe_core_python.__file__).with_name("axe.min.js").read_text(encoding="utf-8")
# A checkbox is as large as its label.
SMALL = """
const targets = [...document.querySelectorAll("button, summary, input, select")];
return targets.filter((e) => e.checkVisibility() && !e.closest(".unseen")).map((e) => {
  const box = (e.type === "checkbox" ? e.closest("label") : e).getBoundingClientRect();
  return [Math.min(box.width, box.height), e.outerHTML.slice(0, 100)];
}).filter(([size]) => size < 24);
"""
LEAST_PASSES = 15  # rules that a page passes: with fewer, axe has not seen it


def violations(browser):
    """What axe finds in the page as it is shown: the rule, an element, and what is wrong."""
    browser.execute_script(AXE)
    found = browser.execute_async_script("axe.run().then(arguments[0])")
    assert len(found["passes"]) > LEAST_PASSES
    return [
        (rule["id"], rule["nodes"][0]["html"][:200], rule["nodes"][0]["failureSummary"])
        for rule in found["violations"]
    ]


def small_targets(browser):
    """Sizes and elements."""
    return browser.execute_script(SMALL)
