"""Versions of the libraries that networks come from: another version may build or run another network."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, version

# Distribution by module, and how many parts of its version count: torch's last one changes no arithmetic.
LIBRARIES = {
    "torch": ("torch", 2), "timm": ("timm", 3), "torchvision": ("torchvision", 2), "transformers": ("transformers", 3),
    "open_clip": ("open_clip_torch", 3),
}  # fmt: skip


def library_versions(modules: Iterable[str]) -> str:
    """The versions of these libraries, as a part of a component's version: `+timm-1.0.31+torch-2.9`; others are left out."""
    found = ((module, _version(module)) for module in sorted(set(modules) & LIBRARIES.keys()))
    return "".join(f"+{module}-{number}" for module, number in found if number)


@cache
def _version(module: str) -> str:
    distribution, parts = LIBRARIES[module]
    try:
        return ".".join(version(distribution).partition("+")[0].split(".")[:parts])
    except PackageNotFoundError:
        return ""
