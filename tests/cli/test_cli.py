"""The command as users and scripts see it."""

import json
import subprocess
import sys

import pytest

from tests.making.command import imported, process, vitbench


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A small finished run."""
    folder = tmp_path_factory.mktemp("cli")
    suite = folder / "tiny.yaml"
    suite.write_text(
        "name: tiny\nbudgets: [2-shot]\nbackbones: [{name: raw_pixels, size_px: 4}]\ntasks: [digits]\n"
        "protocols: [ridge_probe]\n"
    )
    done = vitbench("run", suite, "--out", folder / "run")
    assert done.returncode == 0, done.stderr
    return suite, folder / "run", done


@pytest.mark.parametrize(
    "command", ["help", "list", "timm", "schema", "report", "export", "status", "nothing to do", "mistake"]
)
def test_only_computing_imports_torch(command, finished, tmp_path):
    suite, run, _ = finished
    arguments = {
        "help": ["--help"],
        "list": ["list", "backbones"],
        "timm": ["list", "backbones", "timm:*vit_tiny*"],
        "schema": ["list", "schema"],
        "report": ["report", run, "-o", tmp_path / "a.html"],
        "export": ["export", run],
        "status": ["status", run],
        "nothing to do": ["run", suite, "--out", run],
        "mistake": ["run", suite, "--backbone", "timm:vit_tyni"],
    }[command]
    heavy = {"torch", "timm", "torchvision", "sklearn", "tensorflow"}
    if command == "help":
        heavy |= {"pandas", "numpy", "yaml", "pydantic", "altair", "jinja2"}
    assert imported(*arguments) & heavy == set()


def test_a_run_prints_its_leaderboard_and_the_path_of_the_page(finished):
    _, run, done = finished
    assert "ridge_probe · 2-shot" in done.stdout
    assert "raw_pixels" in done.stdout
    assert f"Leaderboard: {run / 'report.html'}" in done.stderr
    assert (run / "report.html").is_file()
    assert "\x1b" not in done.stdout + done.stderr  # no colours and no progress bar: it is not a terminal


def test_running_again_does_nothing_and_says_so(finished):
    suite, run, _ = finished
    again = vitbench("run", suite, "--out", run)
    assert again.returncode == 0
    assert "nothing to do: all 1 jobs are done" in again.stderr
    assert again.stdout == ""


def test_a_new_label_makes_a_new_page_and_json_is_printed_when_there_is_nothing_to_do(finished, tmp_path):
    suite, run, _ = finished
    mine = tmp_path / "tiny.yaml"
    mine.write_text(suite.read_text().replace("size_px: 4", "size_px: 4, label: Renamed"))
    again = vitbench("run", mine, "--out", run, "--json")
    assert json.loads(again.stdout)[0]["backbone"] == "Renamed"
    assert "Renamed" in (run / "report.html").read_text()
    assert vitbench("run", suite, "--out", run).returncode == 0
    assert "Renamed" not in (run / "report.html").read_text()


def test_a_record_of_another_schema_is_left_out_and_named(finished, tmp_path):
    suite, _, _ = finished
    out = tmp_path / "r"
    (out / "records").mkdir(parents=True)
    (out / "records" / "old.json").write_text('{"schema_version": 0}')
    done = vitbench("run", suite, "--out", out)
    assert done.returncode == 0
    assert "warning: left out:" in done.stderr
    assert "old.json" in done.stderr
    assert (out / "report.html").is_file()
    again = vitbench("report", out)  # the rest is written
    assert (again.returncode, "old.json" in again.stderr) == (1, True)


def test_a_closed_pipe_is_not_an_error():
    done = subprocess.run(
        f"{sys.executable} -m vitbench list backbones 'timm:*' | head -1",
        shell=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.startswith("timm:")
    assert done.stderr == ""


def test_a_dry_run_lists_the_jobs_and_starts_nothing(finished, tmp_path):
    suite, run, _ = finished
    assert vitbench("run", suite, "--out", run, "--dry-run", "--verbose").stdout.startswith("done ")
    fresh = vitbench("run", suite, "--out", tmp_path / "x", "--dry-run", "--seeds", "0,1", "--json")
    assert [row["done"] for row in json.loads(fresh.stdout)["jobs"]] == [False, False]
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["estimate.json"]


def test_results_as_json(finished, tmp_path):
    suite, _, _ = finished
    done = vitbench("run", suite, "--out", tmp_path / "j", "--json", "--limit", "50")
    rows = json.loads(done.stdout)
    assert rows[0]["limit"] == 50
    assert 0 <= rows[0]["value"] <= 1
    assert "limited" in (tmp_path / "j" / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["run", "no_such_suite"], 2, "there is no suite 'no_such_suite'"),
        (["run", "quickstar"], 2, "did you mean: quickstart"),
        (["run", "quickstart", "--task", "digit"], 2, "did you mean: digits"),
        (["run", "quickstart", "--budget", "5shot"], 2, "--budget: budgets.0: unknown budget '5shot'"),
        (["run", "quickstart", "--seeds", "a"], 2, "0,1,2"),
        (["run", "quickstart", "--set", "x"], 2, "path=value"),
        (["run", "quickstart", "--device", "cuda", "--out", "{tmp}/r"], 2, "torch sees no GPU"),
        (
            ["run", "quickstart", "--device", "gpu", "--out", "{tmp}/r"],
            2,
            "expected cpu, cuda, cuda:N or auto",
        ),
        (["run", "quickstart", "--backbone", "", "--out", "{tmp}/r"], 2, "the name is empty"),
        (["run", "quickstart", "--out", "/dev/null/r"], 2, "cannot be written"),
        (["run", "quickstart", "--limit", "0"], 2, "0 is not in the range"),
        (["run", "folder", "--set", "tasks.images.path=/nowhere"], 3, "/nowhere does not exist"),
        (["run", "folder"], 2, "path"),
        (["report", "{tmp}"], 2, "no records in"),
        (["list", "backbone"], 2, "backbones"),
        (["check", "raw_pixel"], 2, "did you mean: raw_pixels"),
        (["check", "raw_pixels", "--set", "size=3"], 2, "option size"),
        (["nonsense"], 2, "No such command"),
    ],
)
def test_a_mistake_ends_in_a_message_and_an_exit_code(arguments, code, message, tmp_path):
    done = vitbench(*[a.replace("{tmp}", str(tmp_path)) for a in arguments])
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_failures_give_exit_code_1_and_a_leaderboard(finished, tmp_path):
    suite, _, _ = finished
    (tmp_path / "bad.safetensors").write_bytes(b"torn")
    suite2 = tmp_path / "f.yaml"
    suite2.write_text(
        suite.read_text().replace(
            "backbones: [",
            f"backbones: [{{name: 'timm:resnet10t', checkpoint: {tmp_path}/bad.safetensors}}, ",
        )
    )
    done = vitbench("run", suite2, "--out", tmp_path / "r")
    assert done.returncode == 1
    assert "1 jobs failed" in done.stderr
    assert "failed" in done.stdout
    assert "bad.safetensors cannot be read as weights" in (tmp_path / "r" / "report.html").read_text()
    assert (
        vitbench("run", suite2, "--out", tmp_path / "r").returncode == 1
    )  # nothing to do, but there are failures


@pytest.mark.parametrize("form", ["csv", "json", "md", "latex", "parquet"])
def test_exports_go_to_files_and_to_stdout(finished, tmp_path, form):
    _, run, _ = finished
    target = tmp_path / f"out.{form}"
    assert vitbench("export", run, "--format", form, "-o", target).returncode == 0
    if form != "parquet":
        assert vitbench("export", run, "--format", form).stdout == target.read_text()


def test_lists_are_json_on_request():
    names = {row["name"] for row in json.loads(vitbench("list", "protocols", "--json").stdout)}
    assert {"ridge_probe", "knn", "finetune"} <= names
    suites = {row["name"] for row in json.loads(vitbench("list", "suites", "--json").stdout)}
    assert {"quickstart", "folder"} <= suites
    assert "timm:vit_tiny_patch16_224.augreg_in21k" in vitbench("list", "backbones", "timm:vit_tiny*").stdout


def test_the_schema_accepts_the_packaged_suites():
    schema = json.loads(vitbench("list", "schema").stdout)
    assert schema["additionalProperties"] is False
    assert any(item.get("const") == "digits" for item in schema["properties"]["tasks"]["items"]["anyOf"])


# What a library may have left, and what the shell sees of it.
LEFT = {
    "Triton's functions": (
        "import timm",
        (0, "vitbench 0.", ""),
    ),  # listed on stderr as leaks, were they found
    "work": (
        "import atexit, threading, time; atexit.register(print, 'sent')\n"
        "    threading.Thread(target=lambda: (time.sleep(0.3), print('done'))).start()",
        (0, "done\nsent", ""),
    ),
    "output for a full disk": (
        "import atexit; atexit.register(lambda: setattr(sys, 'stdout', open('/dev/full', 'w')) or print())",
        (120, "vitbench 0.", "No space left on device"),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("left", LEFT)
def test_the_end_of_a_process_loses_nothing_and_says_nothing(left):
    doing, (code, said, complaint) = LEFT[left]
    script = (
        "import sys, torch\nimport vitbench.__main__ as command\nplain = command.main\n"
        f"def main():\n    {doing}\n    plain()\n"
        "command.main = main\nsys.argv = ['vitbench', '--version']\ncommand.command()"
    )
    done = process("-c", script, before=(sys.executable,))
    assert done.returncode == code, done.stderr
    assert said in done.stdout
    assert complaint in done.stderr
    assert complaint or not done.stderr


def test_version_and_completion():
    assert process("--version").stdout.startswith("vitbench 0.")
    assert "vitbench" in process(_VITBENCH_COMPLETE="bash_source").stdout


def test_control_characters_of_a_label_do_not_reach_the_terminal(finished, tmp_path):
    suite, _, _ = finished
    evil = tmp_path / "evil.yaml"
    evil.write_text(suite.read_text().replace("size_px: 4", 'size_px: 4, label: "a\\x1b[31mb"'))
    done = vitbench("run", evil, "--out", tmp_path / "r", "--limit", "30")
    assert done.returncode == 0
    assert "\x1b" not in done.stdout
