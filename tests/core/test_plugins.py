"""A plugin comes in by three doors, and a broken one does no harm."""

import json
import os
import subprocess
import sys

import pytest
import yaml

from tests.making.bad_input import SMALLEST, handled
from tests.making.command import vitbench as in_process
from tests.making.paths import ROOT
from vitbench.core.registry import BACKBONES

SUITE = """\
name: plugin
budgets: [5-shot, full]
backbones: [{name: example/random_patches, width: 16}]
tasks: [{name: example/stripes, n: 40}]
protocols: [example/nearest_mean, {name: ridge_probe, preprocess: squash}]
"""


def vitbench(*arguments, path=None, cwd=None):
    environment = {**os.environ, "PYTHONPATH": str(path or "")}
    command = [sys.executable, "-m", "vitbench", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=cwd)


@pytest.fixture(autouse=True)
def _registered_here_only():
    with BACKBONES.restored():
        yield


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The example package, really installed, into a folder of its own."""
    target = tmp_path_factory.mktemp("site")
    source = ROOT / "tests" / "example_plugin"
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--target",
        target,
        source,
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target


@pytest.mark.slow
def test_an_installed_package_is_found_listed_checked_and_run(installed, suite_file, tmp_path):
    commands = [
        ["list", "backbones", "example", "--json"],
        ["list", "plugins"],
        ["check", "example/random_patches"],
        ["run", str(suite_file(SUITE)), "--out", str(tmp_path / "run")],
    ]
    code = (
        "import sys\nfrom vitbench.cli import main\n"
        f"for command in {commands!r}:\n"
        "    sys.argv = ['vitbench', *command]\n"
        "    try: main()\n    except SystemExit as end: print(f'\\nENDED {end.code}\\n', flush=True)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    listed, plugins, checked, ran, _ = done.stdout.split("\nENDED ")
    rows = json.loads(listed)
    assert rows[0]["origin"] == "vitbench-example 0.3"
    assert rows[0]["version"].startswith("1+vitbench-example-0.3.")
    assert "example" in plugins
    assert "FAIL" not in checked
    assert "example/nearest_mean · full" in ran, done.stderr
    assert done.stdout.count("ENDED 0") == 4


def test_a_file_is_a_plugin(suite_file, tmp_path):
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "from torch import nn\nfrom vitbench import register_backbone\nfrom vitbench.api import InputSpec\n"
        "@register_backbone('mine')\nclass Mine(nn.Module):\n"
        "    input = InputSpec(8, (0.5,) * 3, (0.5,) * 3)\n    feature_dim = 3\n"
        "    def features(self, images):\n        return images.mean((2, 3))\n"
    )
    suite = suite_file(
        SUITE.replace("{name: example/random_patches, width: 16}", "mine")
        .replace("{name: example/stripes, n: 40}", "digits")
        .replace("example/nearest_mean, ", "")
    )
    arguments = ("run", suite, "--plugin", plugin, "--out", tmp_path / "run", "--json")
    ran = in_process(*arguments)
    assert ran.returncode == 0, ran.stderr
    before = {row["key"] for row in json.loads(ran.stdout)}
    plugin.write_text(plugin.read_text() + "# changed\n")
    assert "0 done" in vitbench(*arguments[:-1], "--dry-run").stderr  # other code, other jobs
    assert len(before) == 2


@pytest.mark.parametrize(
    "body",
    [
        "raise RuntimeError('boom')",
        "import nothing_of_that_name",
        "def f(:",
        "import sys; 1 / 0",
        "raise SystemExit(0)",
    ],
)
def test_a_broken_plugin_is_a_warning_that_names_it(tmp_path, body):
    plugin = tmp_path / "broken.py"
    plugin.write_text(f"\n{body}\n")
    listed = vitbench("list", "tasks", "--plugin", plugin)
    assert listed.returncode == 0
    assert "digits" in listed.stdout
    assert f"warning: plugin broken ({plugin}) was not loaded" in listed.stderr
    assert "Traceback" not in listed.stderr


@pytest.mark.parametrize("name", ["no_such_file.py", "no.such.module"])
def test_a_plugin_that_is_not_there_is_a_usage_error(name):
    listed = vitbench("list", "tasks", "--plugin", name)
    assert listed.returncode == 2
    assert f"--plugin {name}" in listed.stderr


@pytest.mark.slow
def test_the_written_skeleton_works_and_its_test_passes(tmp_path, monkeypatch):
    written = vitbench("new", "backbone", "my-net", cwd=tmp_path)
    assert written.returncode == 0, written.stderr
    monkeypatch.chdir(tmp_path)
    assert in_process("check", "my-net", "--plugin", str(tmp_path / "my_net.py")).returncode == 0
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_my_net.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert tested.returncode == 0, tested.stdout
    again = vitbench("new", "backbone", "my-net", cwd=tmp_path)
    assert again.returncode == 2
    assert "nothing was written" in again.stderr


@pytest.mark.parametrize("name", ["../evil", "a b", "", "1st", "x" * 100, "raw_pixels", "torch"])
def test_a_skeleton_needs_a_plain_name(tmp_path, name):
    assert vitbench("new", "backbone", name, cwd=tmp_path).returncode == 2
    assert list(tmp_path.iterdir()) == []


WORDLESS = "class E(Exception):\n    def __str__(self):\n        raise RuntimeError\nraise E"


@pytest.mark.parametrize("body", ["raise GeneratorExit", WORDLESS, "raise SystemExit(3)"])
def test_whatever_a_plugin_raises_is_a_warning(tiny, tmp_path, body):
    (tmp_path / "bad.py").write_text(body)
    done = in_process("run", tiny, "--out", tmp_path / "run", "--plugin", tmp_path / "bad.py")
    assert done.returncode == 0
    assert "warning: plugin bad" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_plugin_that_hangs_is_reported_and_given_up(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("vitbench.core.plugins.MESSAGE_AFTER_S", 0.2)
    monkeypatch.setattr("vitbench.core.plugins.STOP_AFTER_S", 1.0)
    (tmp_path / "slow.py").write_text("import time\ntime.sleep(60)\n")
    done = in_process("run", tiny, "--out", tmp_path / "run", "--plugin", tmp_path / "slow.py")
    assert "has not ended in 1 s" in done.stderr


@pytest.mark.parametrize(
    "source",
    [b"def", b"\x00", b"\xff\xfe", b"raise ValueError('no')", b"import sys; sys.exit(0)",
     b"import nothing_of_that_name", b"from vitbench import register_backbone\nregister_backbone(1)(2)",
     b"from vitbench import register_backbone\n@register_backbone('raw_pixels')\ndef f(): ...", b"x" * 100_000, b"("  * 300],
)  # fmt: skip
def test_a_plugin_of_any_bytes(tmp_path, source):
    (tmp_path / "p.py").write_bytes(source)
    (tmp_path / "s.yaml").write_text(yaml.safe_dump({**SMALLEST, "backbones": ["mine"]}))
    code, _, err = handled("run", tmp_path / "s.yaml", "--plugin", tmp_path / "p.py", "--dry-run")
    assert code == 2
    assert "p.py" in err
    assert "unknown backbone 'mine'" in err
