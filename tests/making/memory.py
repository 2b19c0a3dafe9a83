"""The memory that a block takes, from /proc."""

import contextlib
import threading
import time
from pathlib import Path


def anonymous_mib():
    """What this process has in memory that is in no file."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


@contextlib.contextmanager
def most_mib():
    """Yield a function that says by how much the block's memory exceeded what the process had before, at most."""
    before = most = anonymous_mib()
    done = threading.Event()

    def watch():
        nonlocal most
        while not done.is_set():
            most = max(most, anonymous_mib())
            time.sleep(0.005)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield lambda: most - before
    finally:
        done.set()
        thread.join()
