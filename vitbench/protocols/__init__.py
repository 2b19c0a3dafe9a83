"""Built-in protocols, one file or package each. Importing this package registers all of them; to add a protocol, add a file.

Every command imports these files, so they load torch and other heavy libraries lazily.
"""

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
