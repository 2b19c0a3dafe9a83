"""A backbone that cannot be built, or that fails the checks of its first use, is tried once and costs its jobs only."""

import pytest
import torch

import vitbench
from tests.making.command import vitbench as command

PLUGIN = """
import pathlib, torch
from vitbench import register_backbone
from vitbench.api import InputSpec

LOG = pathlib.Path(__file__).with_name("log.txt")


def note(text):
    with LOG.open("a") as file:
        file.write(text + "\\n")


class Base(torch.nn.Module):
    feature_dim = 12
    input = InputSpec(8, (0.5,) * 3, (0.5,) * 3)

    def features(self, images):
        return images[:, :, ::4, ::4].flatten(1)


@register_backbone("broken")
def broken():
    "Cannot be built."
    note("broken")
    raise OSError("no such weights")


@register_backbone("draws")
class Draws(Base):
    "Gives other features each time."
    def features(self, images):
        note("draws")
        return super().features(images) + torch.rand(1)


@register_backbone("slow")
class Slow(Base):
    "Works."
    def features(self, images):
        note("slow")
        return super().features(images)
"""
SUITE = """
name: f
limit: 20
budgets: [2-shot]
seeds: [0, 1, 2]
backbones: [slow, {broken}]
tasks: [digits, photo_regions]
protocols: [knn]
"""


def run(tmp_path, suite_file, broken, **how):
    (tmp_path / "odd.py").write_text(PLUGIN)
    suite = suite_file(SUITE.format(broken=broken))
    records = vitbench.run(suite, tmp_path / "run", plugins=[str(tmp_path / "odd.py")], **how)
    return records, (tmp_path / "log.txt").read_text().split()


def test_a_backbone_that_cannot_be_built_is_tried_once_before_the_others_run(tmp_path, suite_file):
    records, log = run(tmp_path, suite_file, "broken")
    assert log.count("broken") == 1
    assert log.index("broken") < log.index("slow")
    failures = [record.failure for record in records if record.failure]
    assert len(failures) == 6
    assert {failure.phase for failure in failures} == {"build"}
    assert {failure.message for failure in failures} == {"no such weights"}
    assert sum(record.status == "ok" for record in records) == 6
    assert len({record.key for record in records}) == 12


def test_a_backbone_that_fails_its_first_checks_is_not_scored(tmp_path, suite_file):
    records, log = run(tmp_path, suite_file, "draws")
    assert log.count("draws") == 3  # one build: two passes, and one of a single image
    failed = [record for record in records if record.failure]
    assert {record.job.backbone.name for record in failed} == {"draws"}
    assert len(failed) == 6
    assert "check failed: determinism: two forward passes differ" in failed[0].failure.message
    assert "vitbench check 'draws'" in failed[0].failure.message


def test_the_failure_is_said_once_with_all_the_jobs_that_it_costs(tmp_path, suite_file):
    (tmp_path / "odd.py").write_text(PLUGIN)
    suite = suite_file(SUITE.format(broken="broken"))
    done = command("run", suite, "--out", tmp_path / "run", "--plugin", tmp_path / "odd.py")
    assert done.returncode == 1
    assert done.stderr.count("no such weights") == 1
    assert "broken, 6 jobs: no such weights" in done.stderr


@pytest.mark.slow
def test_two_workers_learn_of_it_from_each_other(tmp_path, suite_file):
    (tmp_path / "odd.py").write_text(PLUGIN)
    suite = suite_file(SUITE.format(broken="draws"))
    done = command("run", suite, "--out", tmp_path / "run", "--plugin", tmp_path / "odd.py", "--workers", "2")
    assert done.returncode == 1
    assert "draws, 6 jobs: check failed: determinism" in done.stderr
    assert (tmp_path / "log.txt").read_text().split().count("draws") <= 6


def test_the_first_checks_take_three_images_and_no_gradient(tmp_path, suite_file):
    seen = []

    class Counts(torch.nn.Module):
        feature_dim, input = 3, vitbench.api.InputSpec(4, (0.5,) * 3, (0.5,) * 3)

        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(()))

        def features(self, images):
            seen.append((len(images), torch.is_grad_enabled()))
            return images.mean((2, 3)) * self.scale

    from vitbench.backbones.models.wrapper import BuiltBackbone
    from vitbench.backbones.quick_check import refuse_faulty

    refuse_faulty(BuiltBackbone(Counts(), "counts", {}).eval(), "counts")
    assert seen == [(2, False), (1, False)]
