"""From the name of a suite to its merged contents: finding the file, `include`, and `--set path=value`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from vitbench.core.errors import Problem, UsageError, nearest
from vitbench.suite.suite_file import SuiteFile
from vitbench.suite.yaml_lines import MAX_BYTES, KeyPath, Located, parse_value, read_yaml

JOINED = ("backbones", "tasks", "protocols")
MOST_INCLUDED = 100  # files, each counted as often as it is included: small files can ask for millions
_SUITE_KEY = re.compile(rf"^({'|'.join(['include', *SuiteFile.model_fields])})[ \t]*:", re.MULTILINE)


def packaged_suites() -> dict[str, Path]:
    """Return the suites that ship with vitbench, by name."""
    package = Path(__file__).parents[1]
    folders = (package / "suites", package.parent / "suites")
    folder = next((folder for folder in folders if folder.is_dir()), folders[0])
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def find_suite(suite: str) -> Path:
    """Return the file of a suite given as a path or by the name of a packaged suite.

    Raises:
        UsageError: there is no such suite.
    """
    path = Path(suite)
    if path.is_file():
        return path
    packaged = packaged_suites()
    name = path.stem if path.parent.name == "suites" and path.suffix == ".yaml" else suite
    if name in packaged:
        return packaged[name]
    what = f"there is no suite {suite!r}, neither a file nor one that ships with vitbench"
    near = nearest(path.stem, packaged)
    raise UsageError(Problem(what, nearest=near, next_step="vitbench list suites"))


def read_suite(path: Path, settings: Iterable[str] = ()) -> Located:
    """Return the contents of a suite with `include` and `--set` applied.

    Lists of backbones, tasks and protocols are appended to the included ones; any other key replaces the included one.

    Raises:
        UsageError: a file cannot be read, includes itself, or the path of a setting does not exist.
    """
    located = _with_includes(path, (), iter(range(MOST_INCLUDED)))
    for setting in settings:
        apply_setting(located, setting)
    return located


def _with_includes(path: Path, seen: tuple[Path, ...], budget: Iterator[int]) -> Located:
    resolved = path.resolve()
    if resolved in seen:
        raise UsageError(f"{path} includes itself, through {', '.join(p.name for p in seen)}")
    own = read_yaml(path)
    if not isinstance(own.data, dict):
        raise UsageError(
            Problem("a suite is a mapping: name, backbones, tasks, protocols, …", where=f"{path}:1")
        )
    included = own.data.pop("include", None) or []
    merged = Located({}, {(): own.where(())})
    where = own.where(("include",))
    if not isinstance(included, str | list):
        raise UsageError(Problem("include: expected a file or a list of files", where=where))
    for name in [included] if isinstance(included, str) else included:
        target = path.parent / str(name)
        _check_included(target, where)
        if next(budget, None) is None:
            raise UsageError(Problem(f"include: more than {MOST_INCLUDED} files are included", where=where))
        _merge(merged, _with_includes(target, (*seen, resolved), budget))
    _merge(merged, own)
    return merged


def _check_included(target: Path, where: str) -> None:
    """Check that a file is a suite file, before anything of it can be quoted in a message.

    Raises:
        UsageError: there is no such file, or it is something else.
    """
    if not target.is_file():
        raise UsageError(Problem(f"include: there is no file {target}", where=where))
    with target.open(encoding="utf-8", errors="replace") as file:
        is_suite = target.suffix in (".yaml", ".yml") and _SUITE_KEY.search(file.read(MAX_BYTES))
    if not is_suite:
        raise UsageError(Problem(f"include: {target} is not a suite file", where=where))


def _merge(base: Located, more: Located) -> None:
    for key, value in more.data.items():
        joined = key in JOINED and isinstance(value, list) and isinstance(base.data.get(key), list)
        offset = len(base.data[key]) if joined else 0
        if not joined:
            base.lines = {path: at for path, at in base.lines.items() if path[:1] != (key,)}
        base.data[key] = [*base.data[key], *value] if joined else value
        for path, at in more.lines.items():
            if path[:1] == (key,):
                base.lines[_shifted(path, offset)] = at


def _shifted(path: KeyPath, offset: int) -> KeyPath:
    if offset and len(path) > 1 and isinstance(path[1], int):
        return (path[0], path[1] + offset, *path[2:])
    return path


def apply_setting(located: Located, setting: str) -> None:
    """Apply one `path=value`; the parts of the path are keys, list positions, or names of list entries, separated by dots."""
    path_text, equals, value_text = setting.partition("=")
    if not equals or not re.fullmatch(r"[^\s=]+", path_text):
        raise UsageError(f"--set {setting}: expected path=value, such as protocols.finetune.steps=100")
    *parents, last = path_text.split(".")
    target: Any = located.data
    path: KeyPath = ()
    for part in parents:
        may_begin = (not path and part == "defaults") or (path == ("defaults",) and part in JOINED)
        if may_begin and isinstance(target, dict):
            target.setdefault(part, {})
        key = _step(target, part, setting)
        if isinstance(target[key], str) and isinstance(target, list):
            target[key] = {"name": target[key]}
        target, path = target[key], (*path, key)
    if isinstance(target, dict):
        final: str | int = last
    else:
        final = _step(target, last, setting)
    target[final] = parse_value(value_text)
    full = (*path, final)
    located.lines = {p: at for p, at in located.lines.items() if p[: len(full)] != full}
    located.lines[full] = f"--set {path_text}"


def _step(target: Any, part: str, setting: str) -> Any:
    """Return the key or list position that one part of a path names.

    Raises:
        UsageError: it does not exist.
    """
    if isinstance(target, dict):
        if part in target:
            return part
        names: Sequence[str] = list(target)
    elif isinstance(target, list):
        if part.isdecimal() and int(part) < len(target):
            return int(part)
        labels = [_labels_of(item) for item in target]
        for position, names_of in enumerate(labels):
            if part in names_of:
                return position
        names = [name for names_of in labels for name in names_of]
    else:
        names = []
    raise UsageError(Problem(f"--set {setting}: there is no {part!r}", nearest=nearest(part, names)))


def _labels_of(item: Any) -> list[str]:
    if isinstance(item, dict):
        return [str(item[key]) for key in ("label", "name") if key in item]
    return [str(item)]
