"""Modules that are imported at the first use of one of their attributes.

torch alone takes 1.6 s to import. Code that describes protocols is read by every command, `vitbench list` too, but only
`vitbench run` computes with them.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any


class LazyModule(ModuleType):
    """Stands for the module `name` until an attribute is asked for."""

    def __getattr__(self, attribute: str) -> Any:
        value = getattr(importlib.import_module(self.__name__), attribute)
        self.__dict__[attribute] = value
        return value


def lazy_module(name: str) -> Any:
    """A stand-in for `import name`; write the real import under TYPE_CHECKING beside it."""
    return LazyModule(name)
