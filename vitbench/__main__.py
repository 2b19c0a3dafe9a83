"""`python -m vitbench` is the command `vitbench`."""

from vitbench.cli import main

main()
