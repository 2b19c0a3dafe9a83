"""The command line. Each verb imports what it needs when it is called: `vitbench --help` takes a tenth of a second."""

from __future__ import annotations

import os
import sys

import click

from vitbench.cli.author import check, new
from vitbench.cli.board import export, report
from vitbench.cli.lists import list_
from vitbench.cli.run import run
from vitbench.errors import VitbenchError

INTERRUPTED = 130


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="vitbench", message="%(prog)s %(version)s")
def cli() -> None:
    r"""How well does a vision backbone transfer, and at what compute?

    \b
      vitbench run quickstart            a real board in a minute: no network, no GPU
      vitbench report runs/quickstart    the leaderboard, one HTML file

    Exit codes: 0 all done, 1 some job failed, 2 usage or suite error, 3 data or weights missing, 130 interrupted.
    """


for _verb in (run, report, export, list_, check, new):
    cli.add_command(_verb)


def main() -> None:
    """Run the command line; a user's mistake ends in a message and an exit code, never in a traceback."""
    color = False if os.environ.get("NO_COLOR") else None
    try:
        code = cli.main(prog_name="vitbench", standalone_mode=False, color=color)
    except click.exceptions.Abort:
        code = INTERRUPTED
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except VitbenchError as error:
        for problem in error.problems:
            say(f"error: {problem}", "red", color)
        code = error.exit_code
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        code = 1
    sys.exit(code if isinstance(code, int) else 0)


def say(text: str, colour: str, color: bool | None) -> None:
    """A message on stderr, its first word coloured where colour is wanted."""
    head, colon, rest = text.partition(":")
    click.echo(click.style(head + colon, fg=colour, bold=True) + rest, err=True, color=color)
