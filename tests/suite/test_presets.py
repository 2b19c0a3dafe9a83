"""What a suite's author is told of `preprocess`: old names, and backbones that a preset does not know."""

import pytest

from vitbench.core.errors import UsageError
from vitbench.suite import Overrides, expand, read_suite

HEAD = "name: one\nbudgets: [full]\nseeds: [0]\ntasks: [digits]\n"


def plan(path, **overrides):
    return expand(read_suite(path), Overrides(**overrides))


def test_an_old_name_still_runs_and_every_line_with_it_is_named(suite_file):
    text = HEAD + (
        "backbones: [raw_pixels]\npreprocess: centre_crop\nprotocols:\n  - {name: knn, preprocess: dinov2_knn}\n"
        "  - {name: ridge_probe, preprocess: centre_crop}\n"
    )
    found = plan(suite_file(text))
    assert [job.preprocess for job in found.jobs] == ["dinov2_knn", "centre_crop"]
    lines = [remark.split(": ")[0].rpartition(":")[2] for remark in found.remarks]
    assert lines == ["6", "9"]
    assert all("use `torchvision`" in remark for remark in found.remarks)
    assert plan(suite_file(text.replace("centre_crop", "clip"))).remarks == ()


def test_defaults_are_those_of_the_references(suite_file):
    found = plan(
        suite_file(HEAD + "backbones: [raw_pixels]\nprotocols: [knn, logistic_probe, ridge_probe]\n")
    )
    assert {job.protocol.name: job.preprocess for job in found.jobs} == {
        "knn": "dinov2_knn", "logistic_probe": "clip", "ridge_probe": "fewshot",
    }  # fmt: skip
    assert found.remarks == ()


MIXED = HEAD + (
    "backbones: [raw_pixels, {name: 'timm:resnet10t', pretrained: false}, {name: 'torchvision:resnet18', pretrained: false}]\n"
)


def test_timm_eval_is_refused_with_its_line_for_backbones_that_timm_does_not_know(suite_file):
    with pytest.raises(UsageError) as raised:
        plan(suite_file(MIXED + "protocols:\n  - ridge_probe\n  - {name: knn, preprocess: timm_eval}\n"))
    problems = raised.value.problems
    assert [(p.where.rpartition(":")[2], p.what.split()[-2]) for p in problems] == [
        ("8", "raw_pixels"), ("8", "torchvision:resnet18"),
    ]  # fmt: skip
    assert all("torchvision" in problem.next_step for problem in problems)


def test_timm_eval_is_accepted_where_only_timms_models_are_asked_for(suite_file):
    only = (
        "protocols:\n  - ridge_probe\n  - {name: knn, preprocess: timm_eval, backbones: ['timm:resnet10t']}\n"
    )
    found = plan(suite_file(MIXED + only))
    assert [job.backbone.spec for job in found.jobs if job.preprocess == "timm_eval"] == ["timm:resnet10t"]
    whole = MIXED + "preprocess: timm_eval\nprotocols: [knn]\n"
    assert len(plan(suite_file(whole), backbones=["timm:resnet10t"]).jobs) == 1
    with pytest.raises(UsageError, match=r":6: .*raw_pixels"):
        plan(suite_file(whole))
