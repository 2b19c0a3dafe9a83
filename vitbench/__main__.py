"""The process of the command `vitbench`, also as `python -m vitbench`."""

import atexit
import os
import sys

from vitbench.cli import main


class _End:
    """The last thing at exit, after threads and libraries have finished: the process ends, as it is.

    Taking the interpreter apart afterwards takes 1.6 s with torch and torchvision loaded, and what Triton's bindings, which
    torchvision loads, then find uncollected they list on stderr as leaks.
    """

    code: int | None = None

    def __call__(self) -> None:
        if self.code is None or "torch" not in sys.modules:
            return
        try:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
        except (OSError, ValueError):  # the interpreter says so, with an exit code of its own
            return
        os._exit(self.code)


def command() -> None:
    """Run the command line, and end the process."""
    end = _End()
    atexit.register(end)  # before all others, so it runs after them
    try:
        main()
    except SystemExit as leaving:
        end.code = leaving.code if isinstance(leaving.code, int) else None
        raise


if __name__ == "__main__":
    command()
