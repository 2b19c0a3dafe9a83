"""Rules of the house that no linter knows."""

import re
import subprocess

import pytest

from tests.making.paths import ROOT

FILES = sorted((ROOT / "vitbench").rglob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_files_are_short(file):
    assert len(file.read_text().splitlines()) <= 320


def test_generators_are_made_in_one_place():
    """Nothing but seeding.py seeds torch's global stream; `Generator.manual_seed` is a generator of one's own."""
    for file in FILES:
        if file.name not in ("seeding.py", "plugin_template.py"):
            assert not re.search(r"torch\.manual_seed|np\.random\.seed|random\.seed", file.read_text()), file


def test_no_room_is_called_utils():
    assert not [f for f in FILES if f.stem in ("utils", "helpers", "manager", "common", "misc")]


def test_nothing_executes_pickles():
    for file in FILES:
        text = file.read_text()
        assert "pickle.load" not in text
        assert not re.search(r"yaml\.(load|unsafe_load|full_load)\(", text), file
        for call in re.findall(r"torch\.load\([^)]*\)", text):
            assert "weights_only=True" in call
        for call in re.findall(r"np\.load\(.*\)", text):
            assert "allow_pickle=False" in call


# Written apart, so that this file does not contain what it looks for.
FOREIGN = "|".join(["index" + "-url", "find" + "-links", "/sim" + "ple/", "/wo" + "rk/"])


def test_no_registry_and_no_machine_path_is_named():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    unpacked = [*ROOT.glob("*.*"), *FILES, *(ROOT / "suites").glob("*"), *(ROOT / "tests").rglob("*.*")]
    for name in listed or unpacked:
        file = ROOT / name
        if file.suffix in (".py", ".md", ".toml", ".yaml", ".json", ".html", "") and file.is_file():
            assert not re.search(FOREIGN, file.read_text(errors="replace")), name
