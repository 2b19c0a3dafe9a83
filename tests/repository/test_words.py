"""Words that the house has given up do not come back: one word for one thing, the field's where it has one."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GIVEN_UP = {
    "picture": "image",
    "workbench": "worker",
    "veiled": "sealed",
    "resting": "gc_pause",
    "forecast": "time_left",
}


def texts():
    for folder in ("vitbench", "docs", "suites"):
        yield from (
            path
            for path in (ROOT / folder).rglob("*")
            if path.suffix in {".py", ".md", ".yaml", ".j2", ".js"}
        )
    yield from (ROOT / name for name in ("README.md", "CONTRIBUTING.md"))


@pytest.mark.parametrize("word", GIVEN_UP)
def test_a_word_that_was_given_up_is_not_used(word):
    pattern = re.compile(rf"(?<![a-z]){word}s?(?![a-z])", re.IGNORECASE)
    found = [
        str(path.relative_to(ROOT)) for path in texts() if pattern.search(path.read_text(encoding="utf-8"))
    ]
    assert found == [], f"use {GIVEN_UP[word]!r}"
    assert pattern.search(f"a_{word}s.py")
