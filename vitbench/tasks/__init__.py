"""Built-in tasks, one file per data set. Importing this package registers all of them: to add a task, add a file.

Every command imports these files, so they import torch and other heavy libraries only inside functions.
"""

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__):
    if not _module.ispkg:
        importlib.import_module(f"{__name__}.{_module.name}")
