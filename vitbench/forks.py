"""Where worker processes come from: forked off a server that has imported torch and timm once, for all of them."""

from __future__ import annotations

import multiprocessing
import sys
from multiprocessing.context import BaseContext

PRELOAD = ["vitbench.executors", "timm", "torch._dynamo"]  # torch.utils.flop_counter comes to need _dynamo


def context() -> BaseContext:
    """How processes are started; the server imports while its driver does, so call this early."""
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    from multiprocessing import forkserver

    forkserver.set_forkserver_preload(PRELOAD)
    forkserver.ensure_running()
    return multiprocessing.get_context("forkserver")
