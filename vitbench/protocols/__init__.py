"""Built-in protocols, one file each. Importing this registers every file of the folder: to add one, add a file.

Files here are read by every command, so they import torch and the like only when they are used.
"""

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__):
    if not _module.ispkg:
        importlib.import_module(f"{__name__}.{_module.name}")
