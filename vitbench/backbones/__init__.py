"""Built-in backbones, one file per source, and the functions that build, check, cost and inspect a backbone.

Importing this package registers every source: to add one, add a file. Every command imports these files, so they import torch
and other heavy libraries only inside functions.
"""

import importlib
import pkgutil

# They import torch and register nothing.
NOT_SOURCES = (
    "batch_norm_check",
    "build",
    "check",
    "cost",
    "inspect",
    "precision_check",
    "quick_check",
    "throughput",
    "token_check",
)

for _module in pkgutil.iter_modules(__path__):
    if not _module.ispkg and _module.name not in NOT_SOURCES:
        importlib.import_module(f"{__name__}.{_module.name}")
