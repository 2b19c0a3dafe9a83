"""Built-in protocols, one file or package each. Importing this registers all of them: to add one, add a file.

Files here are read by every command, so they import torch and the like only when they are used.
"""

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
