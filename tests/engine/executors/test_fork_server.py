"""What the fork server imports, and how processes end that have trained with others."""

import subprocess
import sys

import pytest

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


@pytest.mark.slow
def test_the_server_imports_what_every_worker_needs():
    """Without these imports each worker would spend seconds on its own."""
    code = "import sys; from vitbench.engine.executors import fork_server_imports; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert {"torch", "timm", "torch._dynamo", "vitbench.engine.executors.local"} <= set(done.stdout.split())
