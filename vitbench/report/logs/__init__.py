"""Built-in logs, one file each. Importing this package registers all of them: to add a log, add a file."""

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
