"""YAML to plain data with the line of every value. No tags, no code; `1e-3` is a number and `no` is text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from vitbench.core.errors import Problem, UsageError

KeyPath = tuple[str | int, ...]
MAX_BYTES = 2**20  # PyYAML reads some 100 kB a second
MAX_VALUES = 200_000  # aliases can make a small file enormous


class _Loader(yaml.SafeLoader):
    """Scalars as in YAML 1.2: only true and false are booleans, and 1e-3 is a number."""


_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern)
        for tag, pattern in resolvers
        if not tag.endswith((":bool", ":float", ":timestamp", ":int"))
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_INT = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(rf"^(?:{_BOOL.pattern})$"), list("tTfF"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(rf"^(?:{_INT.pattern})$"), list("-+0123456789")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(rf"^(?:{_FLOAT.pattern})$"), list("-+.0123456789")
)


@dataclass
class Located:
    """Data with the source line (`file:line`) of each value, by its path of keys and positions."""

    data: Any
    lines: dict[KeyPath, str] = field(default_factory=dict)

    def where(self, path: KeyPath) -> str:
        """Return the source line of a value, or of the nearest value around it."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.lines:
                return self.lines[path[:length]]
        return ""


def parse(text: str, name: str) -> Located:
    """Parse a YAML document.

    Raises:
        UsageError: it is not YAML, repeats a key, or is unreasonably large.
    """
    located = Located(None)
    try:
        if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
            raise UsageError(f"{name}: suite files may have at most {MAX_BYTES >> 20} MiB")
        node = yaml.compose(text, Loader=_Loader)
        located.data = _construct(node, name, located.lines, (), iter(range(MAX_VALUES)))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f"{name}:{mark.line + 1}" if mark else name
        raise UsageError(Problem(f"not valid YAML: {error.problem}", where=line)) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = str(error).split("\n")[0]
        raise UsageError(Problem(f"not valid YAML: {reason}", where=name)) from error
    return located


def parse_value(text: str) -> Any:
    """Parse one value as in a suite file: `1e-3`, `[a, b]`, `true`."""
    return parse(text, "--set").data


def _construct(
    node: yaml.Node | None, name: str, lines: dict[KeyPath, str], path: KeyPath, budget: Iterator[int]
) -> Any:
    if node is None:
        return None
    if next(budget, None) is None:
        raise ValueError(f"more than {MAX_VALUES:,} values after expanding aliases")
    lines[path] = f"{name}:{node.start_mark.line + 1}"
    if node.tag.startswith("!") or not node.tag.startswith("tag:yaml.org,2002:") or "/" in node.tag:
        raise _tag_problem(node, lines[path])
    if isinstance(node, yaml.MappingNode):
        return _construct_mapping(node, name, lines, path, budget)
    if isinstance(node, yaml.SequenceNode):
        items = enumerate(node.value)
        return [_construct(item, name, lines, (*path, i), budget) for i, item in items]
    return _scalar(node, lines[path])


def _construct_mapping(
    node: yaml.MappingNode, name: str, lines: dict[KeyPath, str], path: KeyPath, budget: Iterator[int]
) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = str(key_node.value)
        if key in result:
            line = f"{name}:{key_node.start_mark.line + 1}"
            raise UsageError(Problem(f"duplicate key {key!r}", where=line))
        result[key] = _construct(value_node, name, lines, (*path, key), budget)
        lines[(*path, key)] = f"{name}:{key_node.start_mark.line + 1}"
    return result


def _scalar(node: yaml.Node, line: str) -> Any:
    kind = node.tag.rpartition(":")[2]
    if kind == "str":
        return node.value
    if kind == "null":
        return None
    if kind == "bool":
        return node.value.lower() == "true"
    if kind == "int":
        return int(node.value)
    if kind == "float":
        return float(node.value)
    raise _tag_problem(node, line)


def _tag_problem(node: yaml.Node, line: str) -> UsageError:
    return UsageError(Problem(f"the YAML tag {node.tag!r} is not allowed", where=line))


def read_yaml(path: Path) -> Located:
    """Parse a file.

    Raises:
        UsageError: it cannot be read or is not YAML.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UsageError(f"{path}: suite files may have at most {MAX_BYTES >> 20} MiB")
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not text in UTF-8") from error
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    return parse(text, str(path))
