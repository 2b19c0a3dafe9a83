"""`vitbench reproduce`: made-up published rows are measured on miniatures and judged; what cannot be measured says why."""

import contextlib
import json

import pytest
import yaml

import vitbench as package
from tests.making import made_up_rows
from tests.making.command import vitbench
from vitbench.protocols import recipes

KNN = "dinov2-card-tiny-knn"


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """The accuracy of the tiny network on digits, measured by a suite that was written by hand."""
    folder = tmp_path_factory.mktemp("by-hand")
    suite = folder / "suite.yaml"
    suite.write_text(
        f"name: by-hand\nbudgets: [full]\nbackbones: [{{name: 'timm:{made_up_rows.TINY}', size_px: 32}}]\n"
        "tasks: [digits]\nprotocols: [knn]\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        made_up_rows.cache_weights(patch, folder)
        (record,) = package.run(suite, folder / "run")
    assert record.conformant
    return 100 * record.metrics["top1"].value


@pytest.fixture
def publish(tmp_path, monkeypatch):
    """Make rows up, and work in a folder of one's own with the tiny network's weights at hand."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("vitbench.engine.speeds.CALIBRATION_S", 0.1)
    made_up_rows.cache_weights(monkeypatch, tmp_path)
    with contextlib.ExitStack() as stack:
        yield lambda *rows: stack.enter_context(made_up_rows.published_instead(tmp_path, list(rows)))


def knn_row(value, **facts):
    return made_up_rows.row(KNN, "knn-full", {"digits": {"value": round(value, 1)}}, **facts)


@pytest.mark.parametrize("off_by", [0.0, -20.0])
def test_a_row_is_measured_and_judged(publish, measured, off_by):
    printed = round(measured + off_by, 1)
    publish(knn_row(printed))
    words = f"off by {measured - printed:+.2f}" if off_by else "within the tolerance of"
    done = vitbench("reproduce", KNN)
    assert done.returncode == 0, done.stderr
    (line,) = (
        line for line in done.stdout.splitlines() if line.strip().startswith("digits") and "printed" in line
    )
    assert words in line, line
    assert f"{measured:.2f} measured" in line
    assert "tolerance: " in done.stdout
    assert ("could explain a difference: one k a row" in done.stdout) == (off_by != 0)
    again = vitbench("reproduce", KNN)
    assert "nothing to do" in again.stderr
    assert line in again.stdout


def test_as_json_there_is_one_document(publish, measured):
    publish(knn_row(measured))
    done = vitbench("reproduce", KNN, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    (verdict,) = found["verdicts"]
    assert (verdict["dataset"], verdict["outcome"]) == ("digits", "within")
    assert 100 * verdict["measured"]["value"] == pytest.approx(measured)
    assert found["suite"]["backbones"][0]["size_px"] == 32
    assert found["row"]["id"] == KNN


def test_a_dry_run_shows_plan_and_cost_and_runs_nothing(publish, measured, tmp_path):
    publish(knn_row(measured))
    done = vitbench("reproduce", KNN, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert f"timm:{made_up_rows.TINY}, 32 px" in done.stdout
    assert "knn, full" in done.stdout
    assert "1 jobs, 0 done, 1 to run" in done.stderr
    assert "FLOPs" in done.stderr
    found = json.loads(vitbench("reproduce", KNN, "--dry-run", "--json").stdout)
    assert (len(found["jobs"]), found["missing"]) == (1, [])
    assert found["estimate"]["images_forward"] > 1000
    assert not list(tmp_path.rglob("records/*.json"))


def test_a_saved_suite_runs_by_hand(publish, measured, tmp_path):
    publish(knn_row(measured))
    done = vitbench("reproduce", KNN, "--save", "mine.yaml")
    assert (done.returncode, done.stdout) == (0, "")
    assert "vitbench run mine.yaml" in done.stderr
    assert not (tmp_path / "runs").exists()
    again = vitbench("reproduce", KNN, "--save", "mine.yaml")
    assert (again.returncode, "there already" in again.stderr) == (2, True)
    assert yaml.safe_load((tmp_path / "mine.yaml").read_text())["published"] == [KNN]
    (record,) = package.run("mine.yaml", "run")
    assert 100 * record.metrics["top1"].value == pytest.approx(measured)


# Recipe `vit` as a miniature that takes seconds.
TINY_RECIPE = """
vit:
  title: A miniature
  source: made up
  common: {batch_size: 32, size_px: 32, clip_norm: 1.0}
  settings:
    - {tasks: [digits], steps: 6, warmup_steps: 2, base_lr: [0.01, 0.1]}
    - {tasks: [photo_regions], steps: 6, warmup_steps: 2, base_lr: [0.01], departs: made-up photos}
"""
FINETUNED = "vit2021-t5-tiny"


@pytest.fixture
def tiny_recipe(monkeypatch, tmp_path):
    """The miniature recipe beside the others."""
    file = tmp_path / "recipes.yaml"
    file.write_text(recipes.FILE.read_text().replace("\nvit:\n", "\nvit-full:\n") + TINY_RECIPE)
    monkeypatch.setattr(recipes, "FILE", file)
    recipes.named_recipes.cache_clear()
    yield
    monkeypatch.undo()
    recipes.named_recipes.cache_clear()


def fine_tuned(**values):
    return made_up_rows.row(FINETUNED, "finetune-full", values, runs=2)


@pytest.mark.slow
def test_fine_tuning_is_judged_by_its_seeds_task_by_task(publish, tiny_recipe):
    publish(fine_tuned(digits={"value": 10.0, "std": 3.0}, photo_regions={"value": 99.0, "std": 0.1}))
    one = vitbench("reproduce", FINETUNED, "--task", "digits", "--json")
    assert one.returncode == 0, one.stderr
    (verdict,) = json.loads(one.stdout)["verdicts"]
    assert (verdict["dataset"], verdict["measured"]["count"]) == ("digits", 2)
    both = vitbench("reproduce", FINETUNED)
    assert "2 jobs, 0 done" not in both.stderr
    assert "4 jobs, 2 new" in both.stderr
    lines = [line for line in both.stdout.splitlines() if " printed, " in line]
    assert [line.split()[0] for line in lines] == ["digits", "photo_regions"]
    assert "99.00 ± 0.10 printed" in lines[1]
    assert "off by -" in lines[1]
    assert "could explain a difference: the paper gives no warm-up" in both.stdout
    assert "could explain a difference: made-up photos" in both.stdout


def test_seeds_may_be_fewer(publish, tiny_recipe):
    publish(fine_tuned(digits={"value": 10.0}))
    done = vitbench("reproduce", FINETUNED, "--seeds", "0", "--dry-run")
    assert "seeds 0\n" in done.stdout
    assert "training    576 images" in done.stdout  # two trials and a final run of 6 steps of 32
    assert "1 jobs, 0 done, 1 to run" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["vit2021-t9-vit-l16-i21"], 2, "did you mean: vit2021-t9-vit-l16-i21k"),
        (["vit2021-t5-vit-l16-i21k", "--task", "cifar"], 2, "did you mean: cifar10 or cifar100"),
        (["bit-readme-bit-m-r50x1-full", "--task", "cifar10"], 2, "cannot be measured: no recipe has the settings"),
        (["vit2021-t2-vit-h14-jft"], 3, "weights pre-trained on JFT-300M were not released"),
        (["vpt2022-vitb16-i21k-vtab1k-bias"], 2, "no configuration for its search for biases"),
        (["vit2021-t5-vit-h14-i21k"], 2, "patches do not fill the row's 384 px"),
        (["vit2021-t5-vit-l16-i21k", "--data-dir", "nowhere"], 3, "vitbench data prepare"),
        (["vit2021-t5-vit-l16-i21k", "--seeds", "one"], 2, "not a list of whole numbers"),
    ],
    ids=str,
)  # fmt: skip
def test_nothing_starts_with_a_mistake(tmp_path, monkeypatch, arguments, code, words):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "none"))
    done = vitbench("reproduce", *arguments)
    assert done.returncode == code, done.stderr
    assert words in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("*.json"))


def test_a_dry_run_without_data_says_what_to_prepare(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "none"))
    done = vitbench("reproduce", "vit2021-t9-vit-l16-i21k", "--task", "dtd", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "vitbench data prepare dtd" in done.stdout
    assert "3 jobs, 0 done, 3 to run" in done.stderr
    assert "training    3.84 M images" in done.stdout  # 3 seeds of 2,500 steps of 512
    found = json.loads(
        vitbench("reproduce", "vit2021-t9-vit-l16-i21k", "--task", "dtd", "--dry-run", "--json").stdout
    )
    assert found["missing"]
    assert found["suite"]["tasks"] == ["vtab/dtd"]


@pytest.mark.slow
def test_a_row_of_prompts_is_planned_with_its_pixels(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "none"))
    row = "vpt2022-vitb16-i21k-vtab1k-vpt-shallow"
    done = vitbench("reproduce", row, "--dry-run", "--task", "dtd", "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert "mean 0.485, 0.456, 0.406, std 0.229, 0.224, 0.225" in done.stdout
    assert "recipe vpt, tune vpt-shallow, 1k, seeds 0, 1, 2, 3, 4" in done.stdout
    assert (
        "  training    96.5 M images" in done.stdout
    )  # (240 trials of 800 and a run of 1,000) x 100 epochs x 5 seeds


def test_reproducible_rows_are_listed():
    done = vitbench("list", "published", "--reproducible", "--json")
    rows = json.loads(done.stdout)
    assert f"{len(rows)} of 351 published rows can be measured" in done.stderr
    assert {"vit2021-t9-vit-l16-i21k", "dinov2-card-vit-b14-knn"} <= {row["name"] for row in rows}
    assert all(row["measurable"] for row in rows)
    assert "6 of 6 values" in vitbench("list", "published", "vit2021-t2", "--reproducible").stdout
    wrong = vitbench("list", "tasks", "--reproducible")
    assert (wrong.returncode, "published rows" in wrong.stderr) == (2, True)
