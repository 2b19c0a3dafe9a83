"""What the fork server imports, and how processes end that have trained with others."""

import os
import signal
import subprocess
import sys
import threading
from multiprocessing import forkserver

import pytest

from vitbench.engine.executors import fork_server

LEAVES = """
import atexit, sys
from vitbench.engine.executors.fork_server import leave

class Late:
    def __del__(self):
        print("torn down")

late = Late()
atexit.register(print, "asked at exit")
print("said before", end=" ")
leave(3)
"""


def test_what_leaves_says_all_and_skips_the_interpreters_end():
    """Nothing is torn down: a thread of gloo's that still holds a tensor would abort the process there."""
    done = subprocess.run([sys.executable, "-c", LEAVES], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (3, "said before asked at exit\n", "")


@pytest.mark.parametrize("fails", [False, True])
def test_an_interrupt_while_the_server_starts_is_not_lost(monkeypatch, fails):
    """It was ignored with those of the server, and the run went on to its end; any thread may be the one that takes it."""
    done = threading.Event()
    others = [threading.Thread(target=done.wait) for _ in range(4)]
    for thread in others:
        thread.start()
    blocked = []

    def start():
        blocked.append(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()))
        os.kill(os.getpid(), signal.SIGINT)
        if fails:
            raise OSError("no socket")

    monkeypatch.setattr(forkserver, "ensure_running", start)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        fork_server.context()
    done.set()
    assert blocked == [True]  # which the server inherits
    assert signal.getsignal(signal.SIGINT) == before
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


@pytest.mark.slow
def test_the_server_imports_what_every_worker_needs():
    """Without these imports each worker would spend seconds on its own."""
    code = "import sys; from vitbench.engine.executors import fork_server_imports; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert {"torch", "timm", "torch._dynamo", "vitbench.engine.executors.local"} <= set(done.stdout.split())
