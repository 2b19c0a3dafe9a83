"""README, CONTRIBUTING and docs/: commands run, suites expand, Python runs, links and paths exist, the site builds."""

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
import pyarrow as pa
import pytest
import yaml
from PIL import Image

import vitbench as package
from tests.making import commands_in_docs as docs
from tests.making import npz
from tests.making.command import vitbench
from tests.making.paths import ROOT
from vitbench.core.conformance import ITEMS
from vitbench.core.registry import TASKS
from vitbench.report.charts import CHARTS
from vitbench.store.record_file import load
from vitbench.store.run_dir import RunDir
from vitbench.store.submission import check, pack, unpack
from vitbench.suite import expand, read_suite


def with_predictions(folder):
    """The example is committed without its predictions: here are some that give its scores, on the tasks' own labels."""
    for record in load(folder):
        test = TASKS.make(record.job.task.spec, record.job.task.options)[1].test()
        prediction = predictions(test.labels, np.asarray(record.confusion.matrix), record.worst)
        table = {
            "index": test.indices,
            "label": test.labels,
            "prediction": prediction,
            "top1_correct": (test.labels == prediction) * 1.0,
        }
        RunDir(folder).write(record, pd.DataFrame(table))


def predictions(labels, matrix, worst):
    """Predictions (N,) that give a confusion matrix (C, C) and are wrong at the positions `worst`."""
    found, first = labels.copy(), np.isin(np.arange(len(labels)), worst)
    for label, counts in enumerate(matrix):
        wrong = np.repeat(np.arange(len(counts)), np.where(np.arange(len(counts)) == label, 0, counts))
        positions = np.flatnonzero(labels == label)
        found[positions[np.argsort(~first[positions], kind="stable")][: len(wrong)]] = wrong
    return found


THEIRS = """
name: theirs
budgets: [full]
preprocess: squash
backbones: [{name: raw_pixels, size_px: 8}]
tasks: [digits, photo_regions]
protocols: [knn]
"""


def submission(folder):
    """A submission that the reader has received."""
    (folder / "theirs.yaml").write_text(THEIRS)
    package.run(folder / "theirs.yaml", folder / "runs" / "their-own", seeds=[0])
    pack(folder / "runs" / "their-own", folder / "theirs.zip")
    unpack(check(folder / "theirs.zip"), folder / "runs" / "theirs")


def images(folder):
    """A reader's folder of images, of two classes."""
    for name, level in (("a", 40), ("b", 200)):
        (folder / "train" / name).mkdir(parents=True)
        for i in range(12):
            Image.new("L", (9, 7), level + i).save(folder / "train" / name / f"{i}.png")


def tables(folder):
    """A reader's table of images, and the same as Parquet files."""
    files = sorted((folder / "DIR").rglob("*.png"))
    rows = pd.DataFrame({"file": [str(path.relative_to(folder)) for path in files]})
    rows["species"] = [path.parent.name for path in files]
    rows.to_csv(folder / "birds.csv", index=False)
    images = [{"bytes": path.read_bytes(), "path": path.name} for path in files]
    (folder / "birds").mkdir()
    for split, part in (("train", slice(0, None, 2)), ("test", slice(1, None, 2))):
        table = pd.DataFrame({"image": images[part], "label": rows["species"][part]})
        table.to_parquet(folder / "birds" / f"{split}-00000-of-00001.parquet")

    table = pa.table({"image": images, "label": rows["species"].tolist()})
    (folder / "saved-birds").mkdir()
    (folder / "saved-birds" / "state.json").write_text(
        '{"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}'
    )
    with pa.ipc.new_stream(str(folder / "saved-birds" / "data-00000-of-00001.arrow"), table.schema) as file:
        file.write_table(table)
    shutil.copytree(folder / "DIR" / "train", folder / "data" / "eurosat" / "2750")


def weights(folder):
    """A reader's checkpoints."""
    import timm
    from safetensors.torch import save_file

    model = timm.create_model("vit_tiny_patch16_224", num_classes=10)
    save_file(model.state_dict(), folder / "my.safetensors")
    npz.saved(npz.weights(npz.golden("vit_a")["spec"], "a"), folder, "ViT-B_16.npz")


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A folder as a reader has it: the repository's suites, a run, the files that the pages show, images, checkpoints."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / "suites").symlink_to(ROOT / "suites")
    shutil.copytree(ROOT / "reports" / "quickstart", folder / "runs" / "quickstart")
    with_predictions(folder / "runs" / "quickstart")
    shutil.copytree(folder / "runs" / "quickstart", folder / "runs" / "laptop")
    pack(folder / "runs" / "quickstart", folder / "submission.zip")  # commands run in any order
    submission(folder)
    for block in docs.BLOCKS:
        if block.file:
            (folder / block.file).write_text(block.text)
    images(folder / "DIR")
    tables(folder)
    weights(folder)
    dump = folder / "vtab-1k" / "cifar"
    dump.mkdir(parents=True)
    (dump / "train800.txt").touch()
    (dump / "1.jpg").touch()
    return folder


# Suites whose networks are costed with what tuning or probes add take seconds to plan.
LONG_PLANS = ("peft-vtab", "linear-probes", "imagenet-own-head", "imagenet-robustness")
# What draws all figures, trains, follows several trackers, or runs again what others run.
LONG_RUNS = (
    "--figures", "mlflow", "my-checkpoint.yaml", "torchvision:", "parquet:", "arrow:", "submission.zip --check", "--watch",
    "merge runs/quickstart", "to=told.txt", "tensorboard",
)  # fmt: skip


def some_slow(commands, long):
    """All commands, the long ones among the slow tests."""
    return [
        pytest.param(command, marks=[pytest.mark.slow] * any(part in command for part in long))
        for command in commands
    ]


@pytest.mark.parametrize("command", some_slow(docs.by_rule("run"), LONG_RUNS))
def test_a_command_runs(desk, data_dir, monkeypatch, command):
    """Within this process, as torch takes seconds to import; a shell sees the same words."""
    monkeypatch.chdir(desk)
    assert command.startswith("vitbench ")
    done = vitbench(*docs.arguments(command))
    assert done.returncode == docs.EXIT_CODES.get(command, 0), done.stdout + done.stderr


@pytest.mark.parametrize("command", some_slow(docs.by_rule("planned"), LONG_PLANS))
def test_a_command_that_needs_weights_is_planned(desk, monkeypatch, command):
    """Without data sets: those that ship with vitbench are counted, of others the jobs are listed."""
    monkeypatch.chdir(desk)
    monkeypatch.setenv("TFDS_DATA_DIR", str(desk / "no-data"))
    words = docs.arguments(command)
    done = vitbench(*words, *[option for option in ["--dry-run"] if option not in words])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "to run" in done.stdout + done.stderr


@pytest.mark.parametrize("command", docs.commands())
def test_a_command_and_its_options_exist(command):
    docs.parse(command)


def test_every_rule_has_commands_and_no_exit_code_is_stale():
    assert all(len(docs.by_rule(name)) > 3 for name in ("run", "planned", "parsed"))
    assert set(docs.EXIT_CODES) <= set(docs.commands())


@pytest.mark.parametrize(
    "command",
    ["vitbench run vtab --no-such", "vitbench nope", "make nope", "pip install '.[nope]'", "curl x"],
)
def test_what_does_not_exist_is_found(command):
    with pytest.raises((AssertionError, KeyError, pytest.fail.Exception)):
        docs.parse(command)


@pytest.mark.slow
def test_the_array_script_ends_in_one_run_directory(desk):
    (script,) = (block.text for block in docs.of_language("bash"))
    assert "--array=1-8" in script
    script = script.replace("run vtab", "run quickstart --backbone raw_pixels --protocol knn")
    script = script.replace("/8", "/2").replace("runs/vtab", "runs/array")
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for index in ("1", "2"):
        environment["SLURM_ARRAY_TASK_ID"] = index
        done = subprocess.run(
            ["bash", "-c", script], cwd=desk, capture_output=True, text=True, env=environment
        )
        assert done.returncode == 0, done.stderr
        assert "1 jobs, 1 new" in done.stderr
    assert len(list((desk / "runs" / "array" / "records").glob("*.json"))) == 2


SUITES = [block for block in docs.of_language("yaml") if "backbones:" in block.text]


@pytest.mark.parametrize("block", SUITES, ids=lambda block: block.page)
def test_a_suite_expands(desk, block, tmp_path):
    for name in ("DIR", "my.safetensors"):
        (tmp_path / name).symlink_to(desk / name)
    suite = tmp_path / "suite.yaml"
    suite.write_text(block.text.replace("/data/pets", "DIR"))
    jobs = expand(read_suite(suite)).jobs
    wanted = yaml.safe_load(block.text)["protocols"]
    assert len({job.protocol.label for job in jobs}) == len(wanted)


def python_blocks():
    """All blocks of Python; the long page of them among the slow tests."""
    for block in docs.of_language("python"):
        yield pytest.param(block, marks=[pytest.mark.slow] * (block.page == "evaluate.md"), id=block.page)


@pytest.mark.parametrize("block", list(python_blocks()))
def test_python_runs(desk, monkeypatch, block):
    """What registers something is run by a command of the docs, or is a file of the example plugin's."""
    code = compile(block.text, block.page, "exec")
    if "@register" in block.text:
        plugins = [path.read_text() for path in (ROOT / "tests" / "example_plugin").rglob("*.py")]
        loaded = any(f"--plugin {block.file}" in command for command in docs.by_rule("run"))
        assert (block.file and loaded) or block.text.strip() in {text.strip() for text in plugins}
        return
    monkeypatch.chdir(desk)
    exec(code, {"__name__": "docs"})


@pytest.mark.parametrize("block", docs.of_language("toml") + docs.of_language("yaml"), ids=lambda b: b.page)
def test_data_parses(block):
    assert (tomllib.loads if block.language == "toml" else yaml.safe_load)(block.text)


@pytest.mark.parametrize("page", docs.PAGES, ids=lambda page: page.name)
def test_every_link_and_path_exists(page):
    text = page.read_text()
    for link in re.findall(r"\]\((?!https?:)([^)#\s]+)[^)]*\)", text):
        assert (page.parent / link).exists(), link
    for path in re.findall(r"`((?:vitbench|tests|suites|reports|docs)/[\w/.-]*)`", text):
        assert (ROOT / path).exists(), path


def test_every_page_is_in_the_navigation():
    nav = (ROOT / "mkdocs.yml").read_text().split("\nnav:")[1].split("\nplugins:")[0]
    listed = set(re.findall(r"[\w-]+\.md", nav))
    assert {page.name for page in (ROOT / "docs").glob("*.md")} <= listed
    readme = (ROOT / "README.md").read_text()
    assert all(f"docs/{name}" in readme for name in listed - {"contributing.md"})


def test_the_map_of_the_package_is_true():
    text = (ROOT / "docs" / "architecture.md").read_text()
    for name in re.findall(
        r"\b((?:[a-z_]+/)*[a-z_]+(?:\.py|/))", "".join(re.findall(r"```\n(cli/.*?)```", text, re.DOTALL))
    ):
        assert (ROOT / "vitbench" / name).exists(), name
    rooms = {path.name for path in (ROOT / "vitbench").iterdir() if (path / "__init__.py").exists()}
    for drawing in (text, (ROOT / "README.md").read_text()):
        drawn = drawing.split("```\n7  __main__")[1].split("```")[0]
        assert set(re.findall(r"\b([a-z]+)/", drawn)) == rooms


def test_versions_and_addresses_agree():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    changelog = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert citation["cff-version"] == "1.2.0"
    assert project["version"] == package.__version__ == citation["version"]
    assert changelog[:2] == ["Unreleased", f"{project['version']} — {citation['date-released']}"]
    assert citation["url"] == project["urls"]["Homepage"]
    extras = project["optional-dependencies"]
    assert set(extras["docs"]) <= set(extras["test"])  # plain pytest builds the documentation


def test_ci_calls_what_it_should():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    assert workflow["jobs"]["ci"]["steps"][-1]["run"] == ".ci/run"
    assert "make docs" in (ROOT / ".ci" / "run").read_text()
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    for hook in hooks:
        assert shutil.which(shlex.split(hook["entry"])[2], path=str(Path(sys.executable).parent)), hook


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The documentation, built as `make docs` does."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_the_site_builds_without_a_warning(site):
    assert (site / "index.html").is_file()
    assert 'id="vitbench.run"' in (site / "api.html").read_text()


@pytest.mark.slow
def test_the_site_loads_nothing_from_elsewhere(site):
    pages = list(site.glob("*.html"))
    assert len(pages) > 10
    for page in pages:
        loaded = re.findall(
            r"<(?:script|img|iframe|link)\b[^>]*?(?:src|href)=\"?(https?:[^\"\s>]+)", page.read_text()
        )
        assert not loaded, (page.name, loaded)


def test_the_guide_to_the_leaderboard_uses_the_words_of_the_page():
    guide = (ROOT / "docs" / "leaderboard.md").read_text(encoding="utf-8")
    templates = (ROOT / "vitbench" / "report" / "templates").glob("*.j2")
    page = "\n".join(path.read_text(encoding="utf-8") for path in templates)
    page += "".join(chart.title for chart in CHARTS)
    items = guide.split("## Conformance\n")[1].split("\n## ")[0]
    assert re.findall(r"^\| (?!item|-)([^|]+?) \|", items, re.MULTILINE) == list(ITEMS)
    marks = guide.split("## Marks on a row\n")[1].split("\n## ")[0]
    names = re.findall(r"^\| ([a-z][a-z ]+?) \|", marks, re.MULTILINE)
    assert {"published", "secondary", "limited", "untrained"} <= set(names)
    sections = re.findall(r"^- \*\*([^*]+)\*\*", guide.split("## Below the tables\n")[1], re.MULTILINE)
    missing = [name for name in [*sections, *names] if name not in page and name not in ("mark", "untrained")]
    assert missing == []
