"""Imports of the fork server (`vitbench.engine.executors.fork_server`); nothing else imports this module.

Failed imports are left to the workers, which report them. Interrupts are handled by the driver.
"""

import contextlib
import importlib
import signal
import sys
from typing import Any


def _tell(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """Stay silent about closed pipes: the driver has ended while a worker was starting."""
    if not issubclass(kind, (EOFError, OSError)):
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _tell
signal.signal(signal.SIGINT, signal.SIG_IGN)
for _name in (
    "vitbench.engine.executors.local",
    "timm",
    "torch._dynamo",
):  # torch.utils.flop_counter imports _dynamo later
    with contextlib.suppress(Exception):
        importlib.import_module(_name)
