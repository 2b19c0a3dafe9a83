"""Registering components: what ships with vitbench, then plugins."""

from __future__ import annotations

from collections.abc import Iterable

import vitbench.backbones
import vitbench.protocols
import vitbench.tasks  # noqa: F401  importing these packages registers their components
from vitbench.core.plugins import LoadedPlugin, load_plugins
from vitbench.protocols.references import reference_of as reference_of


def load_all(plugins: Iterable[str] = ()) -> list[LoadedPlugin]:
    """Register all components; return the plugins, installed ones and those named by file or module.

    A plugin that raises is returned with its error; everything else stays usable.

    Raises:
        UsageError: a named file or module does not exist.
    """
    return load_plugins(plugins)
