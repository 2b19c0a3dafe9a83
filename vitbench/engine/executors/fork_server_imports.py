"""Imported by the server that workers are forked off (`vitbench.engine.executors.fork_server`), and by nothing else.

What cannot be imported is left to the workers, who can say so; an interrupt is the driver's to deal with.
"""

import contextlib
import importlib
import signal
import sys
from typing import Any


def _tell(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """A worker whose driver ends while it starts finds its pipes closed: nobody needs to know."""
    if not issubclass(kind, (EOFError, OSError)):
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _tell
signal.signal(signal.SIGINT, signal.SIG_IGN)
for _name in (
    "vitbench.engine.executors.local",
    "timm",
    "torch._dynamo",
):  # torch.utils.flop_counter comes to need _dynamo
    with contextlib.suppress(Exception):
        importlib.import_module(_name)
