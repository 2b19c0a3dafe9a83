"""The command `vitbench`, within the test's process or as one of its own."""

import contextlib
import io
import os
import subprocess
import sys
from dataclasses import dataclass

import pytest

from vitbench.cli import main

MODULE = (sys.executable, "-m", "vitbench")
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
FOUR_TIMES = (*TORCHRUN[:-1], "--nproc-per-node=4")


@dataclass(frozen=True)
class Ended:
    """What a command wrote, and its exit code."""

    stdout: str
    stderr: str
    returncode: int


def vitbench(*arguments):
    """The command, within this process: torch is imported once for all tests."""
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO())) as out,
        contextlib.redirect_stderr(io.TextIOWrapper(io.BytesIO())) as err,
    ):
        patch.setattr(sys, "argv", ["vitbench", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
    return Ended(*(_written(stream) for stream in (out, err)), ended.value.code)


def _written(stream):
    stream.flush()
    return stream.buffer.getvalue().decode()


def environment(**changes):
    """The variables of a process with one thread, `changes` among them."""
    return {**os.environ, "OMP_NUM_THREADS": "1", **changes}


def process(*arguments, before=MODULE, **variables):
    """The command as a process of its own, when it has ended."""
    command = [*before, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment(**variables), timeout=300)


def started(*arguments, before=MODULE, **variables):
    """The command as a process of its own while it runs, for tests that stop it."""
    return subprocess.Popen(
        [*before, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment(**variables), start_new_session=True,
    )  # fmt: skip


def imported(*arguments):
    """What a command has imported when it ends."""
    code = (
        f"import sys\nsys.argv = {['vitbench', *map(str, arguments)]!r}\nfrom vitbench.cli import main\n"
        "try: main()\nexcept SystemExit: pass\nprint('\\nMODULES', *sorted(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ)
    assert "MODULES" in done.stdout, done.stderr
    return set(done.stdout.rpartition("MODULES")[2].split())
