"""Modules that are imported when one of their attributes is first used.

Importing torch takes 1.6 s. Every command imports the protocols, `vitbench list` too, but only `vitbench run` computes with
them.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

from vitbench.core.errors import Problem, UsageError


class LazyModule(ModuleType):
    """A stand-in for a module, imported at the first access to an attribute."""

    def __getattr__(self, attribute: str) -> Any:
        value = getattr(importlib.import_module(self.__name__), attribute)
        self.__dict__[attribute] = value
        return value


def lazy_module(name: str) -> Any:
    """A stand-in for `import name`; write the real import under TYPE_CHECKING beside it."""
    return LazyModule(name)


def required(module: str, extra: str) -> Any:
    """A module that an extra of vitbench installs.

    Raises:
        UsageError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        what = f"this needs {module.partition('.')[0]}, which is not installed ({error})"
        raise UsageError(Problem(what, next_step=f"pip install 'vitbench[{extra}]'")) from None
