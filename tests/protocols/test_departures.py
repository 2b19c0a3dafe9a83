"""What protocols follow, and what of a suite departs from it."""

import json
import re

import pytest

from tests.making.command import vitbench
from tests.making.jobs import component, make_job
from tests.making.paths import ROOT
from vitbench.core.registry import PROTOCOLS
from vitbench.engine.components import load_all
from vitbench.protocols.recipes import named_recipes
from vitbench.protocols.references import ALWAYS, REPOSITORIES
from vitbench.suite.expand import expand
from vitbench.suite.read import read_suite

load_all()
DOCS = (ROOT / "docs" / "protocols.md").read_text(encoding="utf-8")


def departures(name, job=None, **options):
    """The departures of a job of this protocol, at its default preprocessing unless the job has another."""
    protocol = PROTOCOLS.make(name, options)[1]
    asked = {"preprocess": protocol.default_preprocess, **(job or {})}
    return protocol.departures(make_job(protocol=component(name, **options), **asked))


CASES = (
    ("knn", {}, {}, ()),
    ("knn", {}, {"k": 200}, ()),
    ("knn", {}, {"k": 5}, ("k = 5",)),
    ("knn", {}, {"k": "val"}, ("k is chosen on validation",)),
    ("knn", {"preprocess": "squash"}, {}, ("preprocessing `squash` instead of `dinov2_knn`",)),
    ("ridge_probe", {"budget": "5-shot"}, {}, ()),
    ("ridge_probe", {"budget": "1k"}, {}, ("l2 is chosen on validation; big_vision's is 1024",)),
    ("ridge_probe", {"budget": "1k"}, {"l2": 1024.0}, ()),
    ("ridge_probe", {"budget": "5-shot"}, {"l2": "loo"}, ("l2 is chosen by leave-one-out",)),
    ("ridge_probe", {"budget": "5-shot"}, {"l2": 3.0}, ("l2 is 3.0",)),
    ("logistic_probe", {}, {}, ()),
    ("logistic_probe", {}, {"c": 1.0}, ("C is 1, where DINOv2 chooses it",)),
    ("logistic_probe", {}, {"values": 96}, ("96 values instead of 45",)),
    ("logistic_probe", {}, {"standardise": True}, ("features are standardised",)),
    ("linear_probe", {}, {}, ("chosen on held-out training images", "trained without these held-out images")),
    ("linear_probe", {}, {"recipe": "mae"}, ()),
    (
        "linear_probe",
        {"preprocess": "squash"},
        {"recipe": "mae", "epochs": 50},
        ("`squash`", "the suite states epochs"),
    ),
    ("attentive_probe", {"resolution_px": 224}, {}, ()),
    (
        "attentive_probe",
        {"resolution_px": 32},
        {"inputs": "tokens"},
        ("the suite states inputs", "images of 32 px"),
    ),
    ("finetune", {"task": "vtab/dtd"}, {}, ()),
    ("finetune", {"task": "digits"}, {}, ("the source has no setting for this task",)),
    ("finetune", {"task": "vtab/dtd"}, {"steps": 10}, ("the suite states steps",)),
    ("finetune", {"task": "vtab/dtd", "resolution_px": 224}, {}, ("images of 224 px",)),
    ("finetune", {"task": "vtab/dtd", "resolution_px": 384}, {}, ()),
    ("finetune", {"task": "digits"}, {"recipe": "bit"}, ()),
    (
        "finetune",
        {"task": "imagenet"},
        {"recipe": "vit-released"},
        ("all test images are scored",),
    ),
    ("finetune", {"task": "vtab/dtd"}, {"recipe": "vtab-light"}, ("warm-up of 8 %",)),
    ("finetune", {"task": "imagenet", "preprocess": "dinov2_knn"}, {"recipe": "mae"}, ()),
    (
        "finetune",
        {"task": "imagenet"},
        {"recipe": "beit"},
        ("preprocessing `squash` instead of `dinov2_knn`",),
    ),
    ("finetune", {"task": "imagenet", "preprocess": "clip"}, {"recipe": "deit3"}, ()),
    ("finetune", {"task": "digits", "preprocess": "clip"}, {"recipe": "deit3"}, ("are for ImageNet only",)),
)


@pytest.mark.parametrize(("name", "job", "options", "expected"), CASES)
def test_departures_follow_from_the_job(name, job, options, expected):
    found = departures(name, job, **options)
    assert len(found) == len(expected)
    for text, part in zip(found, expected, strict=True):
        assert part in text


def test_the_suites_own_recipe_follows_none():
    assert departures("finetune", recipe="own") is None


# Suites that say they follow a reference, and what of them departs nevertheless.
FOLLOWING = {
    "vtab": set(),
    "fewshot": set(),
    "imagenet-fewshot": set(),
    "cifar": set(),
    "pets-flowers": set(),
    "imagenet": set(),
    "bit-vtab": set(),
    "paper": set(),
    "scaling": set(),
}


@pytest.mark.parametrize(("name", "known"), FOLLOWING.items())
def test_suites_that_follow_a_reference_do(name, known):
    path = ROOT / "suites" / f"{name}.yaml"
    found = set()
    for job in expand(read_suite(path)).jobs:
        found |= set(PROTOCOLS.make(job.protocol.spec, job.protocol.options)[1].departures(job))
    assert found == known


def test_commits_are_those_of_the_docs():
    table = DOCS.split("## Abbreviations\n")[1].split("\n## ")[0]
    for prefix, (repository, commit) in REPOSITORIES.items():
        assert re.search(
            rf"^\| {prefix} \| \[{re.escape(repository)}\].*\[{commit}\]", table, re.MULTILINE
        ), prefix


def test_what_always_departs_stands_in_the_docs():
    section = DOCS.split("## Known departures\n")[1].split("\n## ")[0]
    for name, texts in ALWAYS.items():
        assert name in PROTOCOLS.specs()
        for text in texts:
            assert f"| `{name}` | {text} |" in section, text


def test_the_list_names_reference_commit_and_departures_of_every_protocol_and_recipe():
    rows = json.loads(vitbench("list", "protocols", "--json").stdout)
    assert {row["name"] for row in rows} >= set(ALWAYS)
    for row in (row for row in rows if row["name"] in ALWAYS):
        assert row["reference"]
        assert row["departs"]
    for name, recipes in (("linear_probe", {"dinov2", "mae"}), ("attentive_probe", {"capi"})):
        (probe,) = (row for row in rows if row["name"] == name)
        assert {recipe["name"] for recipe in probe["recipes"]} == recipes
    (finetune,) = (row for row in rows if row["name"] == "finetune")
    assert {recipe["name"] for recipe in finetune["recipes"]} == set(named_recipes())
    shown = vitbench("list", "protocols").stdout
    assert "BV = google-research/big_vision at 0127fb6" in shown
    assert "recipe vit-released" in shown
