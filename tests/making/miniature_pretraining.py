"""The script that pre-trains the miniatures, as modules: it stands beside vitbench, which never imports it."""

import importlib
import sys

from tests.making.paths import ROOT

FOLDER = ROOT / "reports" / "miniatures"


def script(name):
    """One of the script's files, `images`, `training` or `pretrain`, imported."""
    sys.path.insert(0, str(FOLDER))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(FOLDER))
