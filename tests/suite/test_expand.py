import time
from dataclasses import dataclass

import pytest
import yaml

from vitbench.api import Protocol
from vitbench.core.errors import DataMissingError, UsageError
from vitbench.core.registry import PROTOCOLS, register_protocol
from vitbench.suite import Overrides, expand, read_suite

BASE = """\
name: base
budgets: [1-shot, full]
seeds: [0, 1, 2]
backbones: [{name: raw_pixels, label: Pixels}]
tasks: [digits, photo_regions]
protocols:
  - {name: ridge_probe, l2: 1e-3}
  - {name: knn, budgets: [full], tasks: [digits]}
"""


def plan(path, *settings, **overrides):
    return expand(read_suite(path, settings), Overrides(**overrides))


def cells(found):
    return [(j.task.label, j.protocol.name, j.budget, j.seed) for j in found.jobs]


def test_a_suite_becomes_its_cells(suite_file):
    found = plan(suite_file(BASE))
    assert cells(found) == [
        *[("digits", "ridge_probe", "1-shot", s) for s in (0, 1, 2)],
        ("digits", "ridge_probe", "full", 0),  # nothing random: one seed
        ("digits", "knn", "full", 0),
        *[("photo_regions", "ridge_probe", "1-shot", s) for s in (0, 1, 2)],
        ("photo_regions", "ridge_probe", "full", 0),
    ]
    assert found.jobs[0].protocol.options == {"l2": 0.001}
    assert found.jobs[0].preprocess == "fewshot"  # the protocol's own
    assert found.jobs[4].suite.tasks == ("digits",)
    assert len({job.key for job in found.jobs}) == len(found.jobs)


def test_every_mistake_is_told_at_once_with_its_line(suite_file):
    path = suite_file(
        "name: a\nbackbones: [raw_pixel]\ntasks: [digit, {name: p, source: folder}]\n"
        "protocols:\n  - {name: ridge_probe, l3: 1}\n  - {name: knn, k: x, budgets: [5shot]}\nbudgets: [full]\nlimt: 3\n"
    )
    with pytest.raises(UsageError) as caught:
        plan(path)
    text = str(caught.value)
    for line, words in (
        (2, "unknown backbone 'raw_pixel'"),
        (3, "unknown task 'digit'"),
        (3, "needs its `path`"),
        (5, "has no option 'l3'"),
        (6, "unknown budget '5shot'"),
        (8, "unknown key 'limt'"),
    ):
        assert any(f"{path.name}:{line}: " in row and words in row for row in text.split("\n")), (
            line,
            words,
            text,
        )
    assert "did you mean: limit" in text
    assert "did you mean: raw_pixels" in text


def test_an_option_of_several_types_is_one_mistake(suite_file):
    with pytest.raises(UsageError, match=r"suite.yaml:7: protocols\.0\.k.*integer.*or.*'val'") as caught:
        plan(
            suite_file(
                BASE.replace("{name: ridge_probe, l2: 1e-3}", "{name: knn, k: x}").replace(
                    "  - {name: knn, budgets: [full], tasks: [digits]}\n", ""
                )
            )
        )
    assert len(caught.value.problems) == 1


def test_overrides_replace_the_suite_and_narrow_its_entries(suite_file):
    path = suite_file(BASE)
    assert {b for *_, b, _ in cells(plan(path, budgets=["5-shot"]))} == {"5-shot"}
    assert cells(plan(path, budgets=["full"], tasks=["digits"])) == [
        ("digits", "ridge_probe", "full", 0),
        ("digits", "knn", "full", 0),
    ]
    assert {s for *_, b, s in cells(plan(path, seeds=[7])) if b == "1-shot"} == {7}
    assert {s for *_, b, s in cells(plan(path, seeds=[7])) if b == "full"} == {
        0
    }  # nothing random: one cell for all seeds
    assert plan(path, backbones=["Pixels"]).jobs[0].backbone.label == "Pixels"
    assert plan(path, backbones=["timm:resnet18"]).jobs[0].backbone.argument == "resnet18"
    assert {job.limit for job in plan(path, limit=9).jobs} == {9}
    with pytest.raises(UsageError, match="--backbone timm:resnet1: unknown backbone"):
        plan(path, backbones=["timm:resnet1"])
    with pytest.raises(UsageError, match="no jobs match these filters"):
        plan(path, protocols=["knn"], budgets=["1-shot"])


def test_a_narrowed_run_still_knows_the_whole_row(suite_file):
    assert plan(suite_file(BASE), tasks=["digits"]).jobs[0].suite.tasks == ("digits", "photo_regions")


def test_set_reaches_values_by_key_position_and_name(suite_file):
    path = suite_file(BASE)
    assert plan(path, "protocols.ridge_probe.l2=2e1").jobs[0].protocol.options["l2"] == 20.0
    assert plan(path, "backbones.Pixels.size_px=8").jobs[0].backbone.options["size_px"] == 8
    assert {j.seed for j in plan(path, "seeds=[5]").jobs if j.budget == "1-shot"} == {5}
    assert plan(path, "protocols.0.l2=3").jobs[0].protocol.options["l2"] == 3.0
    with pytest.raises(UsageError, match=r"there is no 'ridge_prob'[\s\S]*did you mean: ridge_probe"):
        plan(path, "protocols.ridge_prob.l2=3")
    with pytest.raises(UsageError, match="--set protocols"):
        plan(path, "protocols.ridge_probe.l2=x")


def test_include_joins_lists_and_replaces_the_rest(suite_file):
    suite_file("backbones: [raw_pixels]\nseeds: [9]\nbudgets: [1k]\n", "nets.yaml")
    path = suite_file(
        "name: b\ninclude: nets.yaml\nbackbones: [{name: raw_pixels, label: L, size_px: 4}]\nseeds: [1]\n"
        "tasks: [digits]\nprotocols: [ridge_probe, {name: knn, x: 1}]\n"
    )
    with pytest.raises(UsageError, match=r"suite.yaml:6: protocol 'knn' has no option 'x'"):
        plan(path)
    found = plan(path, "protocols=[ridge_probe]")
    assert [(j.backbone.label, j.budget) for j in found.jobs] == [("raw_pixels", "1k"), ("L", "1k")]
    loop = suite_file("include: loop.yaml\n", "loop.yaml")
    with pytest.raises(UsageError, match="includes itself"):
        read_suite(loop)


def test_places_in_a_suite_are_relative_to_it_and_missing_ones_are_named(suite_file, tmp_path):
    path = suite_file(
        BASE.replace(
            "tasks: [digits, photo_regions]", "tasks: [{name: mine, source: folder, path: pets}]"
        ).replace("tasks: [digits]", "tasks: [mine]")
    )
    with pytest.raises(
        DataMissingError, match=rf"suite.yaml:5: task 'folder': {tmp_path}/pets does not exist"
    ):
        plan(path)
    (tmp_path / "pets" / "train" / "cat").mkdir(parents=True)
    image = tmp_path / "pets" / "train" / "cat" / "a.png"
    image.write_text("1")
    first = plan(path).jobs[0]
    assert first.task.label == "mine"
    image.write_text("2")
    assert plan(path).jobs[0].key != first.key  # the content counts, not the place
    image.write_text("1")
    (tmp_path / "pets" / "runs").mkdir()
    (tmp_path / "pets" / "runs" / "report.html").write_text("beside the folders of splits: not read")
    (tmp_path / "pets").rename(tmp_path / "moved")
    assert plan(path, f"tasks.mine.path={tmp_path}/moved").jobs[0].key == first.key


def test_two_things_under_one_label_are_refused(suite_file):
    path = suite_file(
        BASE.replace(
            "[{name: raw_pixels, label: Pixels}]",
            "[{name: raw_pixels, size_px: 4}, {name: raw_pixels, size_px: 8}]",
        )
    )
    with pytest.raises(UsageError, match="two different backbones have the label 'raw_pixels'"):
        plan(path)


def test_defaults_go_to_entries_that_take_them(suite_file):
    two = BASE.replace("label: Pixels}", "label: Pixels}, {name: 'timm:resnet10t', label: R}")
    found = plan(suite_file(two + "defaults: {backbones: {size_px: 4, pretrained: false}}\n"))
    assert found.jobs[0].backbone.options == {"size_px": 4}
    assert found.jobs[-1].backbone.options["pretrained"] is False


@pytest.mark.parametrize(
    "narrowed",
    [
        {},
        {"tasks": ["digits"]},
        {"tasks": ["photo_regions"]},
        {"budgets": ["5-shot"]},
        {"seeds": [4]},
        {"backbones": ["Pixels"]},
        {"limit": 9},
    ],
    ids=str,
)
def test_the_lock_asks_for_the_same_jobs(suite_file, narrowed):
    found = plan(suite_file(BASE), **narrowed)
    locked = plan(suite_file(found.lock, "lock.yaml"))
    assert [job.key for job in locked.jobs] == [job.key for job in found.jobs]
    assert yaml.safe_load(found.lock)["name"] == "base"


def test_a_checkpoint_is_keyed_by_its_content_and_must_be_there(suite_file, tmp_path):
    net = "{name: 'timm:resnet10t', label: n, checkpoint: w.safetensors}"
    path = suite_file(BASE.replace("{name: raw_pixels, label: Pixels}", net))
    with pytest.raises(DataMissingError, match=rf"{tmp_path}/w.safetensors does not exist"):
        plan(path)
    keys = []
    for content in (b"one", b"two", b"one"):
        (tmp_path / "w.safetensors").write_bytes(content)
        keys.append(plan(path).jobs[0].key)
    assert keys[0] == keys[2] != keys[1]
    with pytest.raises(UsageError, match=r"suite.yaml:4: backbones\.0\.size_px"):
        plan(suite_file(BASE.replace("label: Pixels", "size_px: abc")))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("include: 3\n" + BASE, "expected a file or a list"),
        (BASE.replace("[0, 1, 2]", "[-1]"), "seeds"),
        (BASE.replace("tasks: [digits, photo_regions]", "tasks: []"), "tasks"),
        (BASE.replace("name: base", "name: 7"), "name"),
    ],
)
def test_odd_values_are_explained(suite_file, text, message):
    with pytest.raises(UsageError, match=message):
        plan(suite_file(text))


def test_an_empty_name_on_the_command_line(suite_file):
    with pytest.raises(UsageError, match="--backbone '': the name is empty"):
        plan(suite_file(BASE), backbones=[""])


def test_a_protocol_that_names_a_stranger(suite_file):
    with pytest.raises(
        UsageError, match=r"suite.yaml:8: the suite has no task 'digit'[\s\S]*did you mean: digits"
    ):
        plan(suite_file(BASE.replace("tasks: [digits]}", "tasks: [digit]}")))


@pytest.mark.parametrize(
    "text", ["", "[]", "3", "name: ../x\nbackbones: [raw_pixels]\ntasks: [digits]\nprotocols: [knn]\n"]
)
def test_what_is_no_suite_is_refused(suite_file, text):
    with pytest.raises(UsageError):
        plan(suite_file(text))


def test_defaults_do_not_reach_what_the_command_line_names(suite_file):
    path = suite_file(BASE + "defaults: {backbones: {size_px: 4}}\n")
    job = plan(path, backbones=["raw_pixels", "Pixels"]).jobs
    assert {j.backbone.options["size_px"] for j in job} == {4}  # both mean the suite's own entry
    trained = suite_file(BASE + "defaults: {backbones: {size_px: 4}}\n", "b.yaml")
    assert plan(trained, backbones=["timm:resnet10t"]).jobs[0].backbone.options["size_px"] is None


def test_a_default_that_nothing_takes_is_told(suite_file):
    with pytest.raises(
        UsageError, match=r"no entry of backbones takes the option 'size'[\s\S]*did you mean: size_px"
    ):
        plan(suite_file(BASE + "defaults: {backbones: {size: 4}}\n"))


def test_set_can_begin_defaults(suite_file):
    assert plan(suite_file(BASE), "defaults.backbones.size_px=8").jobs[0].backbone.options["size_px"] == 8


def test_a_suite_may_name_published_rows_and_is_told_of_those_that_are_not(suite_file):
    head = "name: p\nbackbones: [raw_pixels]\ntasks: [digits]\nprotocols: [ridge_probe]\n"
    found = plan(suite_file(f"{head}published: [vit2021-t9]\n"))
    assert {job.suite.published for job in found.jobs} == {("vit2021-t9",)}
    assert yaml.safe_load(found.lock)["published"] == ["vit2021-t9"]
    with pytest.raises(UsageError, match=r"suite.yaml:5: published.*no published id begins with 'vit2021-x'"):
        plan(suite_file(f"{head}published: [vit2021-t9, vit2021-x]\n"))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{name: logistic_probe, c: 1.0e+999}", "protocol 'logistic_probe', option c is inf: only finite numbers"),
        ("{name: pool, k: 1" + "0" * 400 + "}", "protocol 'pool', option k has 1329 bits"),
        (r'{name: pool, at: "caf\uDCE9"}', r"protocol 'pool', option at is 'caf\\udce9': only text in UTF-8"),
    ],
)  # fmt: skip
def test_an_option_that_cannot_be_recorded_is_refused_where_it_stands(suite_file, line, said):
    @dataclass(frozen=True)
    class Pool(Protocol):
        """Takes any number and any text."""

        k: int = 1
        at: str = ""

    head = "name: f\nbudgets: [full]\nbackbones: [raw_pixels]\ntasks: [digits]\nprotocols:\n"
    path = suite_file(f"{head}  - {line}\n")
    with PROTOCOLS.restored():
        register_protocol("pool")(Pool)
        with pytest.raises(UsageError, match=f"suite.yaml:6: {said}"):
            plan(path)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[{name: raw_pixels, label: Pixels}]", "[{name: raw_pixels, label: A}, {name: raw_pixels, label: B}]", "'A' and 'B'"),
        (
            "[{name: raw_pixels, label: Pixels}]", "[{name: raw_pixels, label: A}, {name: raw_pixels, size_px: 16, label: B}]",
            "'A' and 'B'",
        ),
        (
            "tasks: [digits, photo_regions]", "tasks: [digits, photo_regions, {name: again, source: digits}]",
            "'digits' and 'again'",
        ),
    ],
)  # fmt: skip
def test_one_thing_under_two_labels_is_refused(suite_file, old, new, said):
    """Both rows would have the same keys, and one of them would have no score."""
    assert old in BASE
    with pytest.raises(UsageError, match=f"{said} are the same"):
        plan(suite_file(BASE.replace(old, new)))


def test_includes_have_a_budget(suite_file):
    """Twenty-five files that each include the one before twice ask for 33 million."""
    suite_file(BASE, "0.yaml")
    for i in range(1, 26):
        last = suite_file(f"include: [{i - 1}.yaml, {i - 1}.yaml]\n", f"{i}.yaml")
    begun_s = time.monotonic()
    with pytest.raises(UsageError, match=r"\.yaml:1: include: more than 100 files are included"):
        read_suite(last)
    assert time.monotonic() - begun_s < 5


@pytest.mark.parametrize(
    ("name", "text"),
    [("passwd", "root:x:0:0:secret:/root:/bin/sh\n"), ("keys.yaml", "token: secret\nhost: secret\n"),
     ("list.yaml", "- secret\n"), ("odd.yaml", "secret: [\n")],
)  # fmt: skip
def test_a_file_that_is_no_suite_is_not_quoted(suite_file, tmp_path, name, text):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / name).write_text(text)
    with pytest.raises(UsageError) as raised:
        read_suite(suite_file(f"include: elsewhere/{name}\n" + BASE))
    assert f"{name} is not a suite file" in str(raised.value)
    assert "secret" not in str(raised.value)


def test_the_first_twenty_mistakes_are_shown_and_the_others_counted(suite_file):
    entries = "\n".join(f"  - {{name: raw_pixels, label: L{i}, sizepx: {i}}}" for i in range(5000))
    suite = suite_file(
        BASE.replace("backbones: [{name: raw_pixels, label: Pixels}]", f"backbones:\n{entries}")
    )
    with pytest.raises(UsageError) as raised:
        expand(read_suite(suite))
    assert len(raised.value.problems) >= 5000
    assert str(raised.value).count("has no option 'sizepx'") <= 20
    assert str(raised.value).endswith(f"and {len(raised.value.problems) - 20:,} more")
