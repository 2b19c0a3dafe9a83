"""Backbones, tasks and protocols that are named on the command line with their options."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitbench.core.errors import UsageError
from vitbench.suite import Overrides
from vitbench.suite.command_line import entry_of, label_of, split_outside
from vitbench.suite.expand import expand_chosen
from vitbench.suite.read import read_suite

SUITE = """
name: s
preprocess: squash
defaults: {backbones: {size_px: 4}}
backbones: [{name: raw_pixels, label: "own, small"}]
tasks: [digits]
protocols: [ridge_probe]
"""


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("raw_pixels", {}),
        ("timm:a.b,checkpoint=last.pth,label=mine", {"checkpoint": "last.pth", "label": "mine"}),
        ("x,mean=[0.5, 0.5,0.5],size_px=8", {"mean": [0.5, 0.5, 0.5], "size_px": 8}),
        ('x,label="a, b",trained_on=[]', {"label": "a, b", "trained_on": []}),
        ("x,label=my ViT's best,weights=ema", {"label": "my ViT's best", "weights": "ema"}),
        (
            "x,source=see: below,rate=1e-3,pretrained=false",
            {"source": "see: below", "rate": 1e-3, "pretrained": False},
        ),
        ("x,source=#4,licence=", {"source": "#4", "licence": None}),
        ("x,checkpoint=runs/a=b/last.pth", {"checkpoint": "runs/a=b/last.pth"}),
    ],
)
def test_an_entry_in_one_word(text, wanted):
    assert entry_of(text, "--backbone") == {"name": text.split(",")[0], **wanted}


@given(st.lists(st.text("ab=[]'\"{}: ", max_size=6), min_size=1))
def test_nothing_is_lost_between_commas(parts):
    assert ",".join(split_outside(",".join(parts))) == ",".join(parts)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x,checkpoint", "not 'checkpoint'"),
        ("x,=3", "not '=3'"),
        ("x,a=1,a=2", "'a' is given twice"),
        (",a=1", "the name is empty"),
        ({"label": "x"}, "it needs a `name`"),
    ],
)
def test_what_is_no_entry(text, said):
    with pytest.raises(UsageError, match=said):
        entry_of(text, "--backbone")


def jobs(suite_file, settings=(), **what):
    return expand_chosen(read_suite(suite_file(SUITE)), Overrides(settings=settings, **what)).jobs


def test_options_and_label_reach_the_job(suite_file):
    (job,) = jobs(suite_file, backbones=["raw_pixels,size_px=6,label=six,pretrain_data=none"])
    assert job.backbone.label == "six"
    assert job.backbone.options["size_px"] == 6
    (same,) = jobs(
        suite_file,
        backbones=[{"name": "raw_pixels", "size_px": 6, "label": "other", "pretrain_data": "none"}],
    )
    assert same.key == job.key


def test_set_reaches_what_the_command_line_names(suite_file):
    (job,) = jobs(suite_file, ["backbones.six.size_px=7"], backbones=["raw_pixels,label=six"])
    assert job.backbone.options["size_px"] == 7
    (job,) = jobs(suite_file, ["protocols.knn.k=3"], protocols=["knn"])
    assert job.protocol.options["k"] == 3


def test_protocols_and_tasks_take_options_too(suite_file, tmp_path):
    (job,) = jobs(suite_file, protocols=["knn,k=5,label=five"])
    assert (job.protocol.label, job.protocol.options["k"]) == ("five", 5)


def test_labels_with_commas_of_the_suite_come_first(suite_file):
    (job,) = jobs(suite_file, backbones=["own, small"])
    assert job.backbone.options["size_px"] == 4


def test_defaults_of_a_file_are_for_its_own_entries(suite_file):
    (own, added) = jobs(suite_file, backbones=["own, small", "raw_pixels,label=added"])
    assert (own.backbone.options["size_px"], added.backbone.options["size_px"]) == (4, 16)


def test_wrong_keys_get_the_nearest_name_and_the_place(suite_file):
    with pytest.raises(UsageError) as error:
        jobs(suite_file, backbones=["raw_pixels,size_pz=6"])
    assert "has no option 'size_pz'" in str(error.value)
    assert "size_px" in str(error.value)
    assert "--backbone raw_pixels,size_pz=6" in str(error.value)
    with pytest.raises(UsageError, match=r"--backbone raw_pixels,size_px=wide"):
        jobs(suite_file, backbones=["raw_pixels,size_px=wide"])


def test_the_label_of_a_row_named_as_run_names_it():
    assert label_of("timm:x,checkpoint=last.pth,label=mine") == "mine"
    assert label_of("timm:x,checkpoint=last.pth") == "timm:x"
    assert label_of("own, small") == "own, small"
