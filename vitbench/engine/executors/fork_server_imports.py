"""Imports of the fork server (`vitbench.engine.executors.fork_server`); nothing else imports this module.

Failed imports are left to the workers, which report them. Interrupts are handled by the driver.
"""

import contextlib
import signal
import sys
from typing import Any


def _report(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """Stay silent about closed pipes: the driver has ended while a worker was starting."""
    if not issubclass(kind, (EOFError, OSError)):
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _report
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.pthread_sigmask(
    signal.SIG_UNBLOCK, {signal.SIGINT}
)  # blocked until now: what came meanwhile is ignored, too
with contextlib.suppress(Exception):
    import vitbench.engine.executors.local  # noqa: F401
with contextlib.suppress(Exception):
    import timm  # noqa: F401
with contextlib.suppress(Exception):
    import torch._dynamo  # noqa: F401  torch.utils.flop_counter imports it later
