"""The README: its two commands, its length, its plugin; the suites that ship."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.making.commands_in_docs import blocks
from tests.making.paths import ROOT
from vitbench.suite import Overrides, expand, packaged_suites, read_suite

README = (ROOT / "README.md").read_text()
PLUGIN = next(block.text for block in blocks(ROOT / "README.md") if block.language == "python")
INSTALLS = [
    block.text.strip() for block in blocks(ROOT / "README.md") if block.text.startswith("pip install")
]


def run(command, folder):
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "VITBENCH_CACHE": str(folder / "cache"),
    }
    return subprocess.run(command, shell=True, cwd=folder, capture_output=True, text=True, env=environment)


@pytest.mark.slow
def test_the_first_command_makes_a_leaderboard(tmp_path):
    """pip install is .ci/run's, which has then run the rest too; else it is run here."""
    (tmp_path / "suites").symlink_to(ROOT / "suites")
    install, main = INSTALLS[0].split(" && ")
    assert (install, INSTALLS[1]) == ("pip install .", "pip install -e '.[test]' && pytest")
    if ran := os.environ.get("VITBENCH_QUICKSTART_RUN"):
        shutil.copytree(ran, tmp_path / "runs" / "quickstart")
    else:
        done = run(main, tmp_path)
        assert done.returncode == 0, done.stderr
        assert "runs/quickstart/report.html" in done.stderr
    page = (tmp_path / "runs" / "quickstart" / "report.html").read_text()
    assert page.count("untrained") > 10
    again = run(main, tmp_path)
    assert "nothing to do" in again.stderr or "355 jobs, 0 new" in again.stderr


def test_the_two_commands_are_those_of_ci():
    assert [*INSTALLS] == [
        "pip install . && vitbench run suites/quickstart.yaml",
        "pip install -e '.[test]' && pytest",
    ]
    script = (ROOT / ".ci" / "run").read_text()
    assert "pip install -q . && vitbench run suites/quickstart.yaml" in script
    assert "pip install -q -e '.[test]'" in script


def test_it_is_short():
    assert len(README.splitlines()) <= 150


def test_the_plugin_is_short():
    assert len([line for line in PLUGIN.splitlines() if line.strip() and not line.startswith("#")]) < 25


def test_the_tables_of_what_to_add_have_paths():
    for page in ("README.md", "CONTRIBUTING.md"):
        table = (ROOT / page).read_text().split("| where do I add")[1].split("\n\n")[0]
        assert len(re.findall(r"`(?:vitbench|suites)/[\w/.]+`", table)) >= 7  # test_docs sees that they exist


@pytest.mark.parametrize("name", packaged_suites())
def test_packaged_suites_expand(name, tmp_path):
    (tmp_path / "train").mkdir()
    settings = ["tasks.images.path=" + str(tmp_path)] if name == "folder" else []
    path = packaged_suites()[name]
    assert path.read_text().startswith("# ")
    assert expand(read_suite(path, settings), Overrides()).jobs


def test_python_versions_agree():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == ">=3.11,<3.15"
    assert "Python 3.11 to 3.14" in README
    assert "Python 3.11 to 3.14" in (ROOT / "docs" / "index.md").read_text()
