"""timm's model names, read from its source files: importing timm takes four seconds."""

from __future__ import annotations

import importlib.util
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

# Patterns that begin with a line's end are found several times as fast as with `^`.
_MODEL = re.compile(r"\n@register_model\s*\n(?:@.*\n)*def (\w+)\(")
_CONFIG = re.compile(r"""["']([a-z]\w*)\.([\w.]+)["']""")
_RENAMED = re.compile(r"""\n[ \t]*["']([a-z]\w*)["']\s*:\s*["'][a-z]\w*(?:\.[\w.]+)?["']""")


class TimmNames(NamedTuple):
    """Architectures, weights as `architecture.tag`, all tags, and old names that still work."""

    architectures: frozenset[str]
    tagged: frozenset[str]
    tags: frozenset[str]
    renamed: frozenset[str]


@cache
def _read() -> TimmNames:
    found = importlib.util.find_spec("timm")
    if found is None or found.origin is None:
        return TimmNames(frozenset(), frozenset(), frozenset(), frozenset())
    files = sorted((Path(found.origin).parent / "models").glob("*.py"))
    text = "".join("\n" + file.read_text(encoding="utf-8") for file in files)
    architectures = frozenset(_MODEL.findall(text))
    pairs = [(name, tag) for name, tag in _CONFIG.findall(text) if name in architectures]
    return TimmNames(
        architectures,
        frozenset(f"{name}.{tag}" for name, tag in pairs),
        frozenset(tag for _, tag in pairs),
        frozenset(_RENAMED.findall(text)),
    )


def timm_names() -> list[str]:
    """Return all architectures, and all weights as `architecture.tag`."""
    names = _read()
    return sorted(names.architectures | names.tagged)


def not_timm(name: str) -> list[str] | None:
    """Return None if timm has a model of that name (names on a hub, `hf-hub:…`, are not looked up), else all valid names."""
    names = _read()
    architecture, _, tag = name.partition(".")
    if name.startswith(("hf-hub:", "hf_hub:")) or name in names.renamed or not names.architectures:
        return None
    # Some configurations are copied from another architecture, so a tag of any architecture is accepted.
    known = architecture in names.architectures and (not tag or tag in names.tags)
    return None if known else timm_names()
