"""Built-in backbones, one file per source, and the functions that build, check, cost and inspect a backbone.

Importing this package registers every source: to add one, add a file. Every command imports these files, so they import torch
and other heavy libraries only inside functions.
"""

import importlib
import pkgutil

NOT_SOURCES = ("build", "check", "cost", "inspect", "throughput")  # they import torch and register nothing

for _module in pkgutil.iter_modules(__path__):
    if not _module.ispkg and _module.name not in NOT_SOURCES:
        importlib.import_module(f"{__name__}.{_module.name}")
