"""A first-time user's way with weights from a hub: download, a broken line, no line, and a revision that has moved."""

import json
import os
import pty
import subprocess
import termios
from dataclasses import dataclass
from pathlib import Path

import pytest
import timm
import torch
import transformers
from huggingface_hub import hf_hub_download
from safetensors.torch import save_model

from tests.making.command import MODULE, environment, process, started
from tests.making.hub_server import Hub, black_hole, commit_of, served, sha256, silent
from vitbench.backbones.build import build

SUITE = """
name: first
preprocess: squash
budgets: [2-shot]
backbones: ["{spec}"]
tasks: [digits]
protocols: [knn]
limit: 20
"""
VIT = {
    "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 48, "image_size": 32,
    "patch_size": 8, "num_labels": 5,
}  # fmt: skip


def save_timm(folder, seed):
    """Files of timm's own tiny model, with seeded weights, and the digest of its backbone."""
    torch.manual_seed(seed)
    save_model(timm.create_model("test_vit", pretrained=False), str(folder / "model.safetensors"))
    about = {"architecture": "test_vit", "num_classes": 1000, "pretrained_cfg": {"tag": "r160_in1k"}}
    (folder / "config.json").write_text(json.dumps(about))
    return build("timm:test_vit", {"checkpoint": folder / "model.safetensors"}).weights_digest()


def save_hf(folder, seed):
    """Files of a tiny classifier of transformers, with seeded weights, and the digest of its backbone."""
    torch.manual_seed(seed)
    transformers.ViTForImageClassification(transformers.ViTConfig(**VIT)).save_pretrained(folder)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return build(f"hf:{folder}", {}).weights_digest()


MODELS = {
    "timm": ("timm:test_vit.r160_in1k", "timm/test_vit.r160_in1k", save_timm),
    "hf": ("hf:maker/tiny-vit", "maker/tiny-vit", save_hf),
}


@dataclass
class User:
    """A user with an empty cache and one hub, whose one model is `spec`."""

    folder: Path
    hub: Hub
    spec: str
    repository: str
    save: object

    def push(self, seed):
        """Put other weights on the hub, and return the digest of their backbone."""
        folder = self.folder / f"weights-{seed}"
        folder.mkdir()
        digest = self.save(folder, seed)
        self.hub.push(self.repository, folder)
        return digest

    def variables(self):
        """The hub's address, a cache of one's own, no proxy between."""
        home = str(self.folder / "home")
        return {
            "HF_ENDPOINT": self.hub.url, "HF_HOME": home, "HF_HUB_CACHE": f"{home}/hub", "HF_HUB_OFFLINE": "0",
            "TRANSFORMERS_OFFLINE": "0", "NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost",
        }  # fmt: skip

    def check(self):
        return process("check", self.spec, **self.variables())

    def run_arguments(self, name, *more):
        suite = self.folder / "first.yaml"
        suite.write_text(SUITE.format(spec=self.spec))
        return ["run", suite, "--out", self.folder / name, *more]

    def run(self, name, *more):
        return process(*self.run_arguments(name, *more), **self.variables())

    def records(self, name):
        return [json.loads(path.read_text()) for path in sorted((self.folder / name).glob("records/*.json"))]

    def digest(self, name):
        """The digest of the weights that the one job of a run says it used."""
        (record,) = self.records(name)
        return record["backbone"]["weights_digest"]

    def partial_files(self):
        return list(self.folder.rglob("*.incomplete"))


@pytest.fixture(params=MODELS)
def user(request, tmp_path):
    return User(tmp_path, Hub(), *MODELS[request.param])


# Each command imports torch: what is the same way for both is tried on one.
ONE_OF_THEM = pytest.mark.parametrize("user", ["timm"], indirect=True)


def on_terminal(*arguments, **variables):
    """The exit code of the command, and what it shows on the terminal that is its stderr."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 160))  # a terminal without width shows no bar
    command = [*MODULE, *map(str, arguments)]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=theirs, env=environment(**variables)
    ) as job:
        os.close(theirs)
        shown = b""
        while part := _read(ours):
            shown += part
    os.close(ours)
    return job.returncode, shown.decode()


def _read(descriptor):
    try:
        return os.read(descriptor, 65536)
    except OSError:  # Linux's end of file, when the last process has closed the terminal
        return b""


def test_the_loopback_hub_serves_files_as_the_hub_does(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    (tmp_path / "files").mkdir()
    (tmp_path / "files/model.safetensors").write_bytes(bytes(range(200)))
    (tmp_path / "files/config.json").write_text("{}")
    hub = Hub(drops=1)
    commit = hub.push("maker/tiny", tmp_path / "files")
    with served(hub):
        for name in ("config.json", "model.safetensors"):
            got = Path(
                hf_hub_download(
                    "maker/tiny", name, cache_dir=tmp_path / "cache", endpoint=hub.url, etag_timeout=5
                )
            )
            assert got.read_bytes() == (tmp_path / "files" / name).read_bytes()
            assert commit in got.parts
    assert hub.downloads() == [sha256(bytes(range(200)))] * 2  # it broke off once


@pytest.mark.slow
def test_a_first_check_and_run_download_the_weights_once(user):
    digest = user.push(0)
    with served(user.hub):
        checked = user.check()
        assert checked.returncode == 0, checked.stderr
        ran = user.run("run")
        assert ran.returncode == 0, ran.stderr
    assert user.digest("run") == digest
    assert len(user.hub.downloads()) == 1
    assert "B/s" not in checked.stderr + ran.stderr  # no bar of a download where nobody looks
    assert "FAIL" not in checked.stdout


@pytest.mark.slow
def test_a_terminal_shows_the_download(user):
    user.push(0)
    with served(user.hub):
        code, shown = on_terminal(*user.run_arguments("run"), **user.variables())
    assert code == 0, shown
    assert "model.safetensors" in shown
    assert "B/s" in shown


@pytest.mark.slow
@ONE_OF_THEM
def test_a_line_that_drops_once_does_not_stop_the_download(user):
    digest = user.push(0)
    user.hub.drops = 1
    with served(user.hub):
        ran = user.run("run")
    assert ran.returncode == 0, ran.stderr
    assert len(user.hub.downloads()) == 2
    assert user.digest("run") == digest


@pytest.mark.slow
@ONE_OF_THEM
def test_a_line_that_keeps_dropping_is_said_and_a_retry_downloads_the_weights(user):
    digest = user.push(0)
    user.hub.drops = 1000
    with served(user.hub):
        ran = user.run("run")
        assert ran.returncode == 3, ran.stderr
        assert f"{user.spec} cannot be loaded" in ran.stderr
        assert "connect to the internet once" in ran.stderr
        assert "Traceback" not in ran.stdout + ran.stderr
        assert [record["failure"]["kind"] for record in user.records("run")] == ["DataMissingError"]
        assert user.partial_files() == []
        user.hub.drops = 0
        again = user.run("run", "--retry-failed")
    assert again.returncode == 0, again.stderr
    assert user.digest("run") == digest


@pytest.mark.slow
@ONE_OF_THEM
def test_downloaded_weights_need_no_hub(user):
    digest = user.push(0)
    with served(user.hub):
        assert user.run("before").returncode == 0
    checked = user.check()
    assert checked.returncode == 0, checked.stderr
    ran = user.run("after")
    assert ran.returncode == 0, ran.stderr
    assert user.digest("before") == user.digest("after") == digest


@pytest.mark.slow
@pytest.mark.parametrize(("user", "hub"), [("timm", silent), ("hf", black_hole)], indirect=["user"])
def test_a_hub_that_never_answers_is_said_within_seconds(user, hub):
    with hub() as user.hub.url:
        for arguments in (["check", user.spec], user.run_arguments("run")):
            job = started(*arguments, **user.variables())
            out, err = job.communicate(timeout=150)  # what needs minutes raises here; loading torch is in it
            assert job.returncode == 3, out + err
            assert f"{user.spec} cannot be loaded: {user.hub.url} does not answer" in err
            assert "connect to the internet once" in err


@pytest.mark.slow
@pytest.mark.parametrize("hub", [silent, black_hole])
@ONE_OF_THEM
def test_downloaded_weights_do_not_wait_for_a_hub_that_never_answers(user, hub):
    digest = user.push(0)
    with served(user.hub):
        assert user.run("before").returncode == 0
    with hub() as user.hub.url:
        job = started(*user.run_arguments("after"), **user.variables())
        _, err = job.communicate(timeout=150)
    assert job.returncode == 0, err
    assert user.digest("after") == digest


@pytest.mark.slow
@ONE_OF_THEM
def test_the_same_command_downloads_weights_that_were_missing(user):
    digest = user.push(0)
    user.hub.drops = 1000
    with served(user.hub):
        checked = user.check()
        assert checked.returncode == 3, checked.stdout + checked.stderr
        assert "peer closed connection" in checked.stderr.rpartition("cannot be loaded")[2]
        assert user.run("run").returncode == 3
        user.hub.drops = 0
        again = user.run("run")
    assert again.returncode == 0, again.stderr
    assert user.digest("run") == digest


@pytest.mark.slow
def test_a_record_names_the_commit_and_a_board_says_that_weights_differ(user):
    digests = {user.push(0)}
    with served(user.hub):
        assert user.run("run").returncode == 0
        digests.add(user.push(1))
        ran = user.run("run", "--seeds", "0,1")
    assert ran.returncode == 0, ran.stderr
    commits = {commit_of(files)[:12] for files in user.hub.repositories[user.repository]}
    assert {record["backbone"]["source"].rpartition("@")[2] for record in user.records("run")} == commits
    assert {record["backbone"]["weights_digest"] for record in user.records("run")} == digests
    assert "it/s" not in ran.stderr  # no bar of loading weights where nobody looks
    page = process("report", user.folder / "run", "-o", user.folder / "page.html")
    assert page.returncode == 0, page.stderr
    assert "different weights under one name" in (user.folder / "page.html").read_text()
