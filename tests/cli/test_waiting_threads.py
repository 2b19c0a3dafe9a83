"""Threads that wait for each other do not keep a core from others for long, unless the user says so."""

import os
import subprocess
import sys

import pytest

from vitbench.cli import SPINS


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, SPINS),
        ({"GOMP_SPINCOUNT": "7"}, "7"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, None),
    ],
)
def test_the_command_says_how_threads_wait_before_torch_is_loaded(given, expected):
    code = (
        "import sys, os\nsys.argv = ['vitbench', '--version']\nfrom vitbench.cli import main\n"
        "try: main()\nexcept SystemExit: print(os.environ.get('GOMP_SPINCOUNT'), 'torch' in sys.modules)"
    )
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_WAIT", "GOMP"))}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=plain | given)
    assert done.stdout.splitlines()[-1] == f"{expected} False"
