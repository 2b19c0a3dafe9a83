"""Backbones, tasks and protocols that are named on the command line: those of the suite, or entries of their own.

`timm:NAME,checkpoint=last.pth,label=mine` is the entry `{name: "timm:NAME", checkpoint: last.pth, label: mine}` of a file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vitbench.core.errors import Problem, UsageError
from vitbench.suite.suite_file import KINDS
from vitbench.suite.yaml_lines import Located, parse_value

OPENING, CLOSING, QUOTES = "[{(", "]})", "\"'"
TASK, OWN_NAME = "--task", "own name"  # a task's `name` beside its source, until the entry is whole
Given = str | Mapping[str, Any]
Chosen = dict[str, list[int]]  # by list of the suite: positions of the entries to run


def choose(located: Located, wanted: Mapping[str, Sequence[Given]]) -> Chosen:
    """The positions of what is wanted in each list; what the suite does not have becomes an entry at the end of the list.

    Raises:
        UsageError: a text is no entry.
    """
    return {
        kind: list(dict.fromkeys(at for each in given for at in _positions(located, kind, each)))
        for kind, given in wanted.items()
        if given and isinstance(located.data.get(kind), list)
    }


def _positions(located: Located, kind: str, given: Given) -> list[int]:
    """The entries with this label or name, or a new one."""
    entries = located.data[kind]
    found = [i for i, entry in enumerate(entries) if given in _names(entry)]
    if found:
        return found
    entry = entry_of(given, f"--{kind.removesuffix('s')}")
    if kind == "tasks":
        entry = _sourced(entry)
    located.lines[(kind, len(entries))] = (
        f"--{kind.removesuffix('s')} {given if isinstance(given, str) else entry['name']}"
    )
    entries.append(entry)
    return [len(entries) - 1]


def _names(entry: object) -> list[object]:
    return [entry.get("name"), entry.get("label")] if isinstance(entry, dict) else [entry]


def _sourced(entry: dict[str, Any]) -> dict[str, Any]:
    """The entry of a task `SOURCE:PATH,name=mine`, by default named after its path; any other as it is."""
    source, colon, path = entry["name"].partition(":")
    registered = {each.name: each for each in KINDS["tasks"].entries()}
    if not colon or source not in registered or "path" not in registered[source].options.model_fields:
        return entry
    name = entry.pop(OWN_NAME, None) or Path(path).stem or source
    return {**entry, "name": name, "source": source, "path": path}


def entry_of(given: Given, option: str) -> dict[str, Any]:
    """An entry as a file would have it, from `NAME,key=value,...` or from a mapping with a `name`.

    Raises:
        UsageError: it is neither.
    """
    if not isinstance(given, str):
        found = {key: str(value) if isinstance(value, Path) else value for key, value in given.items()}
        if not isinstance(found.get("name"), str):
            raise UsageError(f"{option} {dict(given)!r}: it needs a `name`")
        return found
    name, *settings = split_outside(given)
    if not name.strip():
        raise UsageError(f"{option} {given!r}: the name is empty")
    entry: dict[str, Any] = {"name": name.strip()}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key.strip().isidentifier():
            what = f"{option} {given}: expected NAME,key=value,..., not {setting.strip()!r}"
            raise UsageError(
                Problem(what, next_step=f"quote a value that has a comma: {option} 'NAME,key=\"a, b\"'")
            )
        if key.strip() == "name" and option == TASK and OWN_NAME not in entry:
            entry[OWN_NAME] = str(_value(text.strip()))
            continue
        if key.strip() in entry:
            raise UsageError(f"{option} {given}: {key.strip()!r} is given twice")
        entry[key.strip()] = _value(text.strip())
    return entry


def split_outside(text: str) -> list[str]:
    """The parts of a text between commas, but for those in brackets and quotes."""
    parts, depth, quote = [""], 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in QUOTES and parts[-1].endswith("="):
            quote = letter
        else:
            depth += (letter in OPENING) - (letter in CLOSING)
        if letter == "," and not quote and depth <= 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def _value(text: str) -> Any:
    """A value as in a suite file; text that YAML reads otherwise, such as `a: b` or `#1`, is text."""
    try:
        found = parse_value(text)
    except UsageError:
        return text
    is_nothing = found is None and text.lower() not in ("", "null", "~")
    return text if is_nothing or (isinstance(found, dict) and not text.startswith("{")) else found


def label_of(given: str) -> str:
    """The label of a row that is named as `run` was given its backbone: `NAME,label=mine` is `mine`."""
    try:
        entry = entry_of(given, "--backbones")
    except UsageError:
        return given
    return str(entry.get("label", entry["name"]))
