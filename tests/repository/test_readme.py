"""Every command of the README runs, and every path in it exists."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.making.command import vitbench
from tests.making.paths import ROOT
from vitbench.store.record_file import load
from vitbench.store.run_dir import RunDir
from vitbench.store.submission import pack
from vitbench.suite import Overrides, expand, packaged_suites, read_suite

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, re.DOTALL)
COMMANDS = [
    line.split("  #")[0].strip()
    for kind, block in BLOCKS
    if kind == "sh"
    for line in block.splitlines()
    if line.strip()
]
SUITE = next(block for kind, block in BLOCKS if kind == "yaml")
PLUGIN = next(block for kind, block in BLOCKS if kind == "python")
ONLINE = [command for command in COMMANDS if ".augreg" in command]
INSTALLS = [command for command in COMMANDS if command.startswith("pip ")]
OTHERS = [command for command in COMMANDS if command not in ONLINE + INSTALLS]


def with_predictions(folder):
    """The example is committed without its predictions: here are some that give its scores."""
    for record in load(folder):
        score = record.metrics["top1"]
        right = np.arange(score.n) < round(score.value * score.n)
        table = {
            "index": np.arange(score.n),
            "label": 0,
            "prediction": (~right).astype(int),
            "top1_correct": right * 1.0,
        }
        RunDir(folder).write(record, pd.DataFrame(table))


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A folder where a reader would sit: the repository's suites, the README's plugin, some images."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / "suites").symlink_to(ROOT / "suites")
    shutil.copytree(ROOT / "reports" / "quickstart", folder / "runs" / "quickstart")
    with_predictions(folder / "runs" / "quickstart")
    shutil.copytree(folder / "runs" / "quickstart", folder / "runs" / "laptop")
    pack(folder / "runs" / "quickstart", folder / "submission.zip")  # commands run in any order
    (folder / "my_net.py").write_text(PLUGIN)
    for name, level in (("a", 40), ("b", 200)):
        (folder / "DIR" / "train" / name).mkdir(parents=True)
        for i in range(12):
            Image.new("L", (9, 7), level + i).save(folder / "DIR" / "train" / name / f"{i}.png")
    return folder


def run(command, folder):
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "VITBENCH_CACHE": str(folder / "cache"),
    }
    return subprocess.run(command, shell=True, cwd=folder, capture_output=True, text=True, env=environment)


@pytest.mark.slow
def test_the_first_command_makes_a_leaderboard(tmp_path):
    """pip install is .ci/run's; the rest is run here."""
    (tmp_path / "suites").symlink_to(ROOT / "suites")
    install, main = INSTALLS[0].split(" && ")
    assert (install, INSTALLS[1]) == ("pip install .", "pip install -e '.[test]' && pytest")
    done = run(main, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "runs/quickstart/report.html" in done.stderr
    page = (tmp_path / "runs" / "quickstart" / "report.html").read_text()
    assert page.count("untrained") > 10
    again = run(main, tmp_path)
    assert "nothing to do" in again.stderr


@pytest.mark.parametrize("command", OTHERS)
def test_every_other_command_runs(desk, data_dir, monkeypatch, command):
    """Within this process, as torch takes seconds to import; a shell sees the same words."""
    monkeypatch.chdir(desk)
    name, *arguments = shlex.split(command)
    assert name == "vitbench"
    done = vitbench(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("command", ONLINE)
def test_what_needs_the_network_is_planned_without_it(desk, command):
    assert run(f"{command} --dry-run", desk).returncode == 0


@pytest.mark.slow
def test_the_array_script_ends_in_one_run_directory(desk):
    (script,) = (block for kind, block in BLOCKS if kind == "bash")
    assert "--array=1-8" in script
    script = script.replace("run vtab", "run quickstart --backbone raw_pixels --protocol knn").replace(
        "/8", "/2"
    )
    for index in (1, 2):
        done = run(f"export SLURM_ARRAY_TASK_ID={index}\n{script}", desk)
        assert done.returncode == 0, done.stderr
        assert "1 jobs, 1 new" in done.stderr
    assert len(list((desk / "runs" / "vtab" / "records").glob("*.json"))) == 2


def test_the_suite_expands(desk, suite_file, tmp_path):
    (tmp_path / "my.safetensors").write_bytes(b"")
    path = suite_file(SUITE.replace("/data/pets", str(desk / "DIR")))
    jobs = expand(read_suite(path)).jobs
    assert {job.protocol.name for job in jobs} == {"ridge_probe", "knn", "finetune"}


def test_the_plugin_is_short():
    assert len([line for line in PLUGIN.splitlines() if line.strip() and not line.startswith("#")]) < 25


def test_every_path_exists():
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    table = README.split("| where do I add")[1].split("\n\n")[0]
    paths = [path for path in re.findall(r"`([\w/.]+)`", table) if "/" in path]
    assert len(paths) > 10
    for path in links + paths:
        assert (ROOT / path).exists(), path


def test_the_map_of_the_house_is_true():
    house = README.split("```\nvitbench/")[1].split("```")[0]
    for name in re.findall(r"(?:^|\s)([a-z]+(?:\.py|/))", house):
        assert (ROOT / "vitbench" / name).exists(), name


@pytest.mark.parametrize("name", packaged_suites())
def test_packaged_suites_expand(name, tmp_path):
    (tmp_path / "train").mkdir()
    settings = ["tasks.images.path=" + str(tmp_path)] if name == "folder" else []
    path = packaged_suites()[name]
    assert path.read_text().startswith("# ")
    assert expand(read_suite(path, settings), Overrides()).jobs


def test_python_versions_agree():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == ">=3.11,<3.14"
    assert "Python 3.11 to 3.13" in README
