"""`vitbench data`, and what `run` says when data is missing."""

import json
import re
import shutil
import time

import pytest

from tests.making.command import vitbench
from tests.making.miniatures import prepare
from vitbench.data.tfds.dataset import DATA_SETS
from vitbench.data.tfds.prepare import html_instead

SUITE = """\
name: some
budgets: [full]
backbones: [{name: raw_pixels, size_px: 8}]
tasks: [vtab/dtd, vtab/clevr_count, vtab/clevr_distance, digits]
protocols: [ridge_probe]
"""


def listed():
    return {name for name, data in DATA_SETS.items() if not data.test_set}


@pytest.fixture
def some(tmp_path, monkeypatch):
    """A folder with dtd prepared, and nothing else."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "data"))
    prepare("dtd", tmp_path / "data")
    return tmp_path / "data"


def states(*arguments):
    done = vitbench("data", "status", *arguments, "--json")
    return {row["name"]: row for row in json.loads(done.stdout)}, done.returncode


def test_status_has_a_line_for_every_data_set(data_dir):
    found, code = states()
    assert set(found) == listed()
    assert {row["state"] for row in found.values()} == {"ready"}
    assert code == 0
    done = vitbench("data", "status")
    lines = done.stdout.splitlines()
    assert re.search(
        r"cache: features +[\d,]+ arrays, .* of 53.7 GB \(VITBENCH_FEATURES_GB\) in ", done.stderr
    )
    assert len(lines) == len(listed())
    assert re.search(r"kitti +ready +3\.\d\.0 array_record \d\.\d MB", "\n".join(lines))


def test_status_says_what_is_missing_and_how_to_get_it(some):
    found, code = states()
    assert code == 0
    assert states("clevr", "dtd")[1] == 3
    assert found["dtd"]["state"] == "ready"
    assert found["clevr"]["state"] == "can be downloaded"
    assert found["clevr"]["detail"] == "19.0 GB: vitbench data prepare clevr"
    assert found["resisc45"]["state"] == "needs manual files"
    assert "NWPU-RESISC45 (427.0 MB)" in found["resisc45"]["detail"]
    assert str(some / "downloads" / "manual") in found["resisc45"]["detail"]


def test_status_is_narrowed_by_tasks_data_sets_and_suites(some, suite_file):
    assert set(states("vtab/smallnorb_azimuth", "vtab/smallnorb_elevation", "kitti")[0]) == {
        "smallnorb",
        "kitti",
    }
    assert set(states(suite_file(SUITE))[0]) == {"dtd", "clevr"}
    done = vitbench("data", "status", "vtab/clevr_cuont")
    assert done.returncode == 2
    assert "did you mean vtab/clevr_count" in done.stderr


def test_status_says_why_a_data_set_is_broken(some):
    (version,) = (some / "dtd").iterdir()
    (shard,) = version.glob("*test*")
    data = shard.read_bytes()
    shard.write_bytes(b"")
    assert states("dtd")[0]["dtd"]["detail"].endswith("is empty")
    shard.unlink()
    assert states("dtd")[0]["dtd"]["state"] == "broken"
    assert states("dtd")[0]["dtd"]["detail"].endswith("is missing")
    shard.write_bytes(data)
    info = version / "dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "parquet"))
    assert "cannot be read by position" in states("dtd")[0]["dtd"]["detail"]
    info.write_text("{")
    assert states("dtd")[0]["dtd"]["state"] == "broken"


def test_another_major_version_is_not_used(some):
    (version,) = (some / "dtd").iterdir()
    version.rename(version.with_name("2.0.0"))
    assert states("dtd")[0]["dtd"]["state"] == "can be downloaded"
    done = vitbench("run", "quickstart", "--task", "vtab/dtd", "--out", some / "r")
    assert done.returncode == 3
    assert "found version 2.0.0; the reference's data is 3.x" in done.stderr


def test_run_stops_before_it_starts_with_one_command_for_all(some, suite_file, tmp_path):
    done = vitbench("run", suite_file(SUITE), "--out", tmp_path / "r")
    assert done.returncode == 3
    assert done.stderr.count("clevr is not prepared") == 2
    assert "next:         vitbench data prepare clevr\n" in done.stderr
    assert not (tmp_path / "r").exists()


def test_missing_data_can_be_skipped_and_the_leaderboard_shows_the_gaps(some, suite_file, tmp_path):
    out = tmp_path / "r"
    done = vitbench("run", suite_file(SUITE), "--out", out, "--skip-missing")
    assert done.returncode == 1
    assert len(list((out / "records").glob("*.json"))) == 2
    header, row = [line for line in done.stdout.splitlines() if "raw_pixels" in line or "backbone" in line]
    assert "vtab/clevr_count" in header
    assert row.count("–") >= 2
    assert "2 jobs skipped: their data is missing" in done.stderr


def test_the_data_dir_is_an_option(some, suite_file, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "elsewhere"))
    suite = suite_file(SUITE.replace("vtab/clevr_count, vtab/clevr_distance, ", ""))
    assert vitbench("run", suite, "--out", tmp_path / "r").returncode == 3
    assert vitbench("run", suite, "--out", tmp_path / "r", "--data-dir", some).returncode == 0
    assert (
        json.loads(vitbench("data", "status", "dtd", "--data-dir", some, "--json").stdout)[0]["state"]
        == "ready"
    )


def test_preparing_is_checked_first(some):
    done = vitbench("data", "prepare", "resisc45", "imagenet2012")
    assert done.returncode == 3
    assert done.stderr.count("is missing (about") == 3
    assert vitbench("data", "prepare", "dtd").stdout.startswith("dtd ")  # ready: left alone
    done = vitbench("data", "prepare", "svhn_cropped")
    assert done.returncode == 2
    assert "vitbench[prepare]" in done.stderr


def test_a_web_page_in_place_of_an_archive_is_recognised(tmp_path):
    page = tmp_path / "extracted" / "x.zip"
    page.parent.mkdir()
    page.write_bytes(b"PK\x03\x04")
    assert html_instead(tmp_path, 0) is None
    page.write_bytes(b"\n <!DOCTYPE html><html>Sign in")
    assert html_instead(tmp_path, 0) == page
    assert html_instead(tmp_path / "none", 0) is None


def findings(*names):
    done = vitbench("data", "verify", *names, "--json")
    return {(row["name"], row["what"]): row for row in json.loads(done.stdout)}, done.returncode


def test_verify_recounts_rereads_and_compares(data_dir):
    found, code = findings("cifar100", "dsprites", "eurosat/rgb", "resisc45", "clevr", "kitti")
    assert code == 1
    assert "cifar100 train has 40 examples, the reference 50,000" in found["cifar100", "split sizes"]["text"]
    for name in ("cifar100", "dsprites", "eurosat/rgb", "resisc45", "clevr", "kitti"):
        assert found[name, "train readable"]["ok"]
        assert found[name, "train order"]["ok"], found[name, "train order"]
        assert found[name, "train pixels"]["ok"]
        assert len(found[name, "train fingerprint"]["text"]) == 64


def test_verify_finds_a_changed_order_and_a_lossy_copy(some, tmp_path):
    from tests.making import miniatures

    shutil.rmtree(some)
    lossless = miniatures.PNG.copy()
    miniatures.PNG.discard("cifar10")
    try:
        prepare("cifar10", some)
    finally:
        miniatures.PNG.update(lossless)
    found, _ = findings("cifar10")
    assert found["cifar10", "train pixels"]["ok"] is False
    assert "re-encoded copy" in found["cifar10", "train pixels"]["text"]
    version = some / "cifar10" / "3.0.2"
    (train,), (test,) = version.glob("*train*"), version.glob("*test*")
    train.write_bytes(test.read_bytes())
    found, _ = findings("cifar10")
    assert found["cifar10", "train readable"]["ok"] is False or found["cifar10", "train order"]["ok"] is False


def test_verify_recognises_the_copy_of_vtab_1k_that_circulates(tmp_path):
    for task in ("cifar", "dtd"):
        folder = tmp_path / "vtab-1k" / task
        (folder / "images" / "train800").mkdir(parents=True)
        (folder / "train800.txt").write_text("images/train800/0.jpg 3\n")
        (folder / "images" / "train800" / "0.jpg").write_bytes(b"")
    found, code = findings(tmp_path / "vtab-1k")
    ((_, item),) = found.items()
    assert code == 1
    assert "NOAH" in item["text"]
    assert "2 tasks (cifar, dtd" in item["text"]
    assert findings(tmp_path / "vtab-1k" / "cifar" / "images")[1] == 0


def test_a_missing_shard_stops_the_run_before_it_starts(some, suite_file, tmp_path):
    (shard,) = (some / "dtd").rglob("*test*-00000-*")
    shard.unlink()
    suite = suite_file(SUITE.replace("vtab/clevr_count, vtab/clevr_distance, ", ""))
    done = vitbench("run", suite, "--out", tmp_path / "r")
    assert done.returncode == 3
    assert f"{shard} is missing" in done.stderr
    assert "vitbench data prepare dtd" in done.stderr
    assert vitbench("run", suite, "--out", tmp_path / "r", "--skip-missing").returncode == 1


@pytest.mark.parametrize("damage", ["features", "list", "junk version"])
def test_one_bad_copy_does_not_affect_the_others(some, damage):
    (version,) = (some / "dtd").iterdir()
    if damage == "features":
        (version / "features.json").unlink()
    elif damage == "list":
        (version / "dataset_info.json").write_text("[1]")
    else:
        (some / "dtd" / "1.0.0").mkdir()
        (some / "dtd" / "1.0.0" / "dataset_info.json").write_text("junk")
    found, _ = states()
    assert set(found) == listed()
    assert found["dtd"]["state"] == ("ready" if damage == "junk version" else "broken")


def test_a_broken_copy_is_moved_aside_before_it_is_prepared_again(some, monkeypatch):
    from vitbench.core.errors import DataMissingError
    from vitbench.data.tfds import prepare as preparing

    (shard,) = (some / "dtd").rglob("*test*-00000-*")
    shard.unlink()
    monkeypatch.setattr(preparing, "check_before", lambda data: None)
    monkeypatch.setattr(preparing.subprocess, "run", lambda *_, **__: type("Done", (), {"returncode": 0}))
    with pytest.raises(DataMissingError, match="dtd was not prepared"):  # nothing was made, and that is said
        preparing.prepare(DATA_SETS["dtd"])
    (kept,) = (some / "dtd").iterdir()
    assert ".broken-" in kept.name
    monkeypatch.setattr(
        preparing.subprocess,
        "run",
        lambda *_, **__: prepare("dtd", some) and type("Done", (), {"returncode": 0}),
    )
    assert preparing.prepare(DATA_SETS["dtd"]).state == "ready"


def test_skip_missing_fails_if_all_data_is_missing(some, suite_file, tmp_path):
    suite = suite_file(SUITE.replace("vtab/dtd, ", "").replace(", digits", ""))
    done = vitbench("run", suite, "--out", tmp_path / "r", "--skip-missing")
    assert done.returncode == 3
    assert "vitbench data prepare clevr" in done.stderr


def test_a_second_run_that_skips_shows_what_the_first_did(some, suite_file, tmp_path):
    suite = suite_file(SUITE)
    for _ in range(2):
        done = vitbench("run", suite, "--out", tmp_path / "r", "--skip-missing")
        assert done.returncode == 1
        assert "2 jobs skipped" in done.stderr


def test_verify_takes_a_data_sets_name_before_a_folders(some, monkeypatch):
    monkeypatch.chdir(some)
    found, _ = findings("dtd")
    assert ("dtd", "train readable") in found


def test_verify_names_a_file_that_is_not_an_image(tmp_path, monkeypatch):
    from tests.making import miniatures

    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    image = miniatures.encoded_image
    monkeypatch.setattr(
        miniatures, "encoded_image", lambda name, rng, i: b"none" if i == 7 else image(name, rng, i)
    )
    prepare("dtd", tmp_path)
    found, code = findings("dtd")
    assert code == 1
    assert "class/image_00007.jpg" in found["dtd", "train images"]["text"]


def test_a_suite_may_need_no_data_set(data_dir):
    assert states("quickstart") == ({}, 0)


@pytest.fixture
def tensorflow_is_there(monkeypatch):
    from vitbench.data.tfds import prepare as preparing

    find = preparing.find_spec
    monkeypatch.setattr(preparing, "find_spec", lambda name: True if name == "tensorflow" else find(name))
    return preparing


def test_free_disk_space_is_checked_first(some, tensorflow_is_there, monkeypatch):
    usage = shutil.disk_usage(some)
    monkeypatch.setattr(tensorflow_is_there.shutil, "disk_usage", lambda path: usage._replace(free=10**9))
    done = vitbench("data", "prepare", "clevr")
    assert done.returncode == 2
    assert "preparing clevr takes about 41.8 GB" in done.stderr
    assert "1.0 GB left; see --data-dir" in done.stderr


def test_preparing_is_a_process_of_its_own_that_sees_no_gpu_and_an_html_page_is_named(
    some, tensorflow_is_there, monkeypatch
):
    seen = {}

    def run(command, env, check):
        seen.update(command=command, env=env)
        page = some / "downloads" / "archive.zip"
        page.parent.mkdir(exist_ok=True)
        page.write_bytes(b"<!doctype html><title>Sign in</title>")
        return type("Done", (), {"returncode": 1})

    monkeypatch.setattr(tensorflow_is_there.subprocess, "run", run)
    done = vitbench("data", "prepare", "dsprites", "uc_merced")
    assert done.returncode == 3
    assert seen["env"]["CUDA_VISIBLE_DEVICES"] == ""
    assert seen["command"][1:4] == [
        "-m",
        "vitbench.data.tfds.prepare_process",
        "uc_merced",
    ]  # the first failure cost the second nothing
    assert done.stderr.count("the server sent an HTML page instead of the archive") == 2


def test_verify_compares_known_draws(data_dir, monkeypatch):
    from vitbench.data.tfds import release
    from vitbench.data.tfds.order import digest_keys, stored_order

    keys = stored_order("train", (f"CLEVR_train_{i:06d}.png" for i in range(40)))
    draws = (
        release.Draw("train", 0, 20, digest_keys(keys[:20])),
        release.Draw("train", 20, 10, "000000000000"),
    )
    monkeypatch.setitem(release.KNOWN_DRAWS, "clevr", draws)
    done = vitbench("data", "verify", "clevr")
    assert f"20 keys from 0: {draws[0].digest}\n" in done.stdout
    assert f"10 keys from 20: {digest_keys(keys[20:30])}, the reference's are 000000000000" in done.stdout


@pytest.fixture
def builders(some, tensorflow_is_there, monkeypatch):
    """TFDS's process is stood in for: it makes the miniature, or fails where `failing` says so."""
    failing, running, most = set(), set(), []

    def run(command, env, check, **output):
        name = command[3]
        running.add(name)
        most.append(len(running))
        if "stdout" in output:
            output["stdout"].write(f"preparing {name}\n".encode())
        time.sleep(0.3)
        running.remove(name)
        if name in failing:
            return type("Done", (), {"returncode": 1})
        prepare(name, some)
        return type("Done", (), {"returncode": 0})

    monkeypatch.setattr(tensorflow_is_there.subprocess, "run", run)
    monkeypatch.setattr("vitbench.data.tfds.prepare.needed_bytes", lambda data: 1)
    return failing, most


def test_what_one_lacks_stops_only_that_one_and_a_table_says_what_is_ready(some, builders):
    failing, _ = builders
    failing.add("dsprites")
    names = ("resisc45", "dsprites", "svhn_cropped", "dtd")
    done = vitbench("data", "prepare", *names)
    assert done.returncode == 3
    table = [line.split(None, 1) for line in done.stdout.splitlines() if line.startswith(names)]
    states = {name: rest.split("  ")[0] for name, rest in table if not rest.startswith("downloaded")}
    assert states == {
        "resisc45": "needs manual files", "dsprites": "can be downloaded", "svhn_cropped": "ready", "dtd": "ready"
    }  # fmt: skip
    assert "resisc45: not prepared (1 of 4)" in done.stderr
    assert "dtd: was ready (4 of 4)" in done.stderr
    assert "NWPU-RESISC45 is missing" in done.stderr
    assert "dsprites was not prepared: see the message of TFDS above" in done.stderr
    failing.clear()
    again = vitbench("data", "prepare", *names[1:])
    assert again.returncode == 0, again.stderr
    assert again.stdout.count(" ready ") == 3


def test_two_are_prepared_at_once_with_their_output_in_files(some, builders):
    _, most = builders
    done = vitbench("data", "prepare", "dsprites", "svhn_cropped", "eurosat/rgb", "-j", "2")
    assert done.returncode == 0, done.stderr
    assert max(most) == 2
    logs = {path.name: path.read_text() for path in (some / "prepare-logs").iterdir()}
    assert logs == {
        f"{name.replace('/', '-')}.log": f"preparing {name}\n"
        for name in ("dsprites", "svhn_cropped", "eurosat/rgb")
    }


def test_two_at_once_must_both_fit_on_the_disk(some, builders, tensorflow_is_there, monkeypatch):
    monkeypatch.setattr("vitbench.data.tfds.prepare.needed_bytes", lambda data: 600)
    monkeypatch.setattr("vitbench.data.tfds.prepare_all.needed_bytes", lambda data: 600)
    usage = shutil.disk_usage(some)
    monkeypatch.setattr(tensorflow_is_there.shutil, "disk_usage", lambda path: usage._replace(free=1000))
    done = vitbench("data", "prepare", "dsprites", "svhn_cropped", "-j", "2")
    assert done.returncode == 3
    assert "takes about 600 B" in done.stderr
    assert vitbench("data", "prepare", "dsprites", "svhn_cropped", "-j", "1").returncode == 0


def test_a_page_or_an_archive_that_was_not_extracted_is_recognised(some, tensorflow_is_there):
    manual = some / "downloads" / "manual"
    manual.mkdir(parents=True)
    archive = manual / "NWPU-RESISC45.rar"
    archive.write_bytes(b"Rar!")
    assert f"extract {archive}" in vitbench("data", "prepare", "resisc45").stderr
    archive.write_bytes(b"<!DOCTYPE html><html>Sign in")
    assert (
        f"{archive} is an HTML page instead of an archive" in vitbench("data", "prepare", "resisc45").stderr
    )
    for name in ("ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"):
        (manual / name).write_bytes(b"\n<html><title>Log in</title>")
    said = vitbench("data", "prepare", "imagenet2012").stderr
    assert said.count("is an HTML page instead of an archive") == 2
