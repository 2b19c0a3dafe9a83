"""Built-in backbones, one file a source, and what is done with one of them.

Importing this registers the sources: to add one, add a file. Every command reads these files, so they import torch and the like
only when they are used.
"""

import importlib
import pkgutil

NOT_SOURCES = ("build", "check", "cost", "inspect", "throughput")  # they import torch and register nothing

for _module in pkgutil.iter_modules(__path__):
    if not _module.ispkg and _module.name not in NOT_SOURCES:
        importlib.import_module(f"{__name__}.{_module.name}")
