"""The command line: one file a verb. Verbs import the rest of vitbench when they are called, so that --help takes 0.1 s."""

from __future__ import annotations

import errno
import io
import os
import sys

import click

from vitbench.cli.check import check
from vitbench.cli.compare import compare
from vitbench.cli.cost import cost
from vitbench.cli.data import data
from vitbench.cli.folder import folder
from vitbench.cli.inspect import inspect_
from vitbench.cli.list import list_
from vitbench.cli.merge import merge
from vitbench.cli.new import new
from vitbench.cli.pack import pack
from vitbench.cli.prune import prune
from vitbench.cli.report import export, report
from vitbench.cli.reproduce import reproduce
from vitbench.cli.retry import retry
from vitbench.cli.run import run
from vitbench.cli.status import status
from vitbench.cli.unpack import unpack
from vitbench.core.errors import VitbenchError, source_line_of
from vitbench.core.format import printable

INTERRUPTED = 130
# Looks at whether other threads are done, before one sleeps (docs/protocols.md#waiting-threads); OpenMP's own 300,000 take the
# core from whoever else needs it.
SPINS = "3000"
# The path itself is wrong: a mistake in the command.
BAD_PATH = (errno.ENAMETOOLONG, errno.EINVAL, errno.ELOOP, errno.ENOTDIR, errno.EISDIR)
_FREE = "  next:         free some space, then run the same command again: all saved results are intact"
_ELSEWHERE = "  next:         choose another path with -o FILE or --out DIR"
NEXT_STEPS = {
    errno.ENOSPC: _FREE, errno.EDQUOT: _FREE, errno.EROFS: _ELSEWHERE, errno.EACCES: _ELSEWHERE, errno.EPERM: _ELSEWHERE,
}  # fmt: skip


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="vitbench", message="%(prog)s %(version)s")
def cli() -> None:  # the \b below is click's mark for "keep these lines"
    """How well does a vision backbone transfer, and at what compute cost?

    \b
      vitbench run quickstart            a real leaderboard in a minute: no network, no GPU
      vitbench report runs/quickstart    the leaderboard as one HTML file

    Exit codes: 0 all done, 1 a job failed, 2 usage or suite error, 3 data or weights missing, 130 interrupted.
    """  # noqa: D301


_VERBS = (
    run, folder, status, retry, report, export, compare, reproduce, pack, unpack, merge, prune, list_, cost, check, inspect_,
    data, new,
)  # fmt: skip
for _verb in _VERBS:
    cli.add_command(_verb)


def share_cores() -> None:
    """Have threads that wait for each other sleep soon, unless the user says how they wait; before torch is loaded.

    Workers inherit it.
    """
    if not os.environ.keys() & {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"}:
        os.environ["GOMP_SPINCOUNT"] = SPINS


def main() -> None:
    """Run the command line; a user's mistake gives a message and an exit code, never a traceback."""
    share_cores()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(
            stream, io.TextIOWrapper
        ):  # a name that the terminal's encoding lacks is escaped, not an error
            stream.reconfigure(errors="backslashreplace")
    code = _exit_code(False if os.environ.get("NO_COLOR") else None)
    if "TORCHELASTIC_RUN_ID" in os.environ:  # one of several processes started by torchrun
        from vitbench.engine.executors.fork_server import leave

        leave(code)
    sys.exit(code)


def _exit_code(color: bool | None) -> int:
    """Run the command, print the error that it raises if any, and return the exit code."""
    try:
        code = cli.main(prog_name="vitbench", standalone_mode=False, color=color)
    except (click.exceptions.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except VitbenchError as error:
        for text in error.shown():
            say(f"error: {text}", "red", color)
        code = error.exit_code
    except BrokenPipeError:  # the reader of our output has gone: `vitbench list … | head`
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115  or closing it raises again
        code = 0
    except Exception as error:  # noqa: BLE001  the last line of defence: a message, not a traceback
        code = _unexpected(error, color)
    return code if isinstance(code, int) else 0


def _unexpected(error: Exception, color: bool | None) -> int:
    """Print an unexpected error with its file and line, or with VITBENCH_DEBUG=1 raise it; return the exit code."""
    if os.environ.get("VITBENCH_DEBUG"):
        raise error
    if isinstance(error, OSError) and error.filename:
        step = NEXT_STEPS.get(error.errno or 0, "")
        say(f"error: {str(error.filename)[:200]}: {error.strerror}{step and chr(10)}{step}", "red", color)
        return 2 if error.errno in BAD_PATH else 1
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115  or closing it raises again
        say(f"error: the output cannot be written: {error.strerror}\n{_FREE}", "red", color)
        return 1
    say(f"error: {type(error).__name__}: {error} ({source_line_of(error)})", "red", color)
    say(
        "this is a bug in vitbench or in a plugin; set VITBENCH_DEBUG=1 to see the traceback", "yellow", color
    )
    return 1


def say(text: str, colour: str, color: bool | None) -> None:
    """Print a message to stderr, with the part before the colon in colour."""
    head, colon, rest = printable(text).partition(":")
    click.echo(click.style(head + colon, fg=colour, bold=True) + rest, err=True, color=color)
