"""A component's version follows all of the user's own code that it runs, and nothing else."""

import functools
import sys
import textwrap

import pytest

import vitbench
from vitbench.core import plugins
from vitbench.core.registry import BACKBONES, PROTOCOLS, Registry
from vitbench.core.source_files import digest_sources, source_files

PACKAGE = {
    "mine/__init__.py": "",
    "mine/net.py": "from mine.parts import block\nimport shared_code\nimport torch\n",
    "mine/parts/__init__.py": "",
    "mine/parts/block.py": "A = 1\n",
    "shared_code.py": "def f():\n    import lazily, os\n    importlib.import_module('by_name')\n",
    "lazily/__init__.py": "import deep.er\n",
    "by_name.py": "",
    "deep/er.py": "A = 1\n",
    "unrelated.py": "A = 1\n",
    "data/notes.txt": "not code\n",
}


@pytest.fixture
def tree(tmp_path):
    for name, text in PACKAGE.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def digest(tree):
    return digest_sources(tree / "mine" / "net.py", "mine.net")


def test_the_users_own_code_is_found_wherever_it_lies(tree):
    found = {path.relative_to(tree).as_posix() for path in source_files(tree / "mine" / "net.py", "mine.net")}
    assert found == PACKAGE.keys() - {"unrelated.py", "data/notes.txt"}


@pytest.mark.parametrize("name", sorted(PACKAGE))
def test_an_edit_changes_the_digest_if_the_code_may_be_run(tree, name):
    before = digest(tree)
    (tree / name).write_text(PACKAGE[name] + "\nB = 2\n")
    assert (digest(tree) == before) == (name in ("unrelated.py", "data/notes.txt"))


def test_a_new_file_of_the_package_changes_the_digest(tree):
    before = digest(tree)
    (tree / "mine" / "parts" / "more.py").write_text("")
    assert digest(tree) != before


def test_a_moved_folder_keeps_its_digest(tree, tmp_path_factory):
    before = digest(tree)
    assert digest(tree.rename(tmp_path_factory.mktemp("other") / "place")) == before


def test_code_on_the_path_counts_and_libraries_do_not(tmp_path, monkeypatch):
    (tmp_path / "on_path").mkdir()
    helper = tmp_path / "on_path" / "my_helper_on_path.py"
    helper.write_text("A = 1")
    monkeypatch.syspath_prepend(str(tmp_path / "on_path"))
    plugin = tmp_path / "plugin.py"
    plugin.write_text(
        "import numpy, torch, timm, vitbench, json, nowhere_to_be_found\nfrom my_helper_on_path import A\n"
    )
    assert source_files(plugin) == [plugin, helper]


def test_imports_in_a_circle_end(tmp_path):
    for one, other in (("a", "b"), ("b", "a")):
        (tmp_path / f"{one}.py").write_text(f"import {other}")
    assert len(source_files(tmp_path / "a.py")) == 2


# In a notebook: a module without a file


@pytest.fixture
def notebook(monkeypatch):
    module = type(sys)("a_notebook")
    monkeypatch.setitem(sys.modules, "a_notebook", module)

    def run(cell):
        exec(textwrap.dedent(cell), module.__dict__)
        return module

    return run


CELLS = """
import numpy as np
SCALE = 2.0
TABLE = {"a": [1, 2]}
WEIGHTS = np.arange(3.0)
class Inner:
    factor = 1
    def __init__(self, by): self.by = by
PART = Inner(3)
def helper(x): return x * SCALE
def unused(x): return x
class Base:
    def forward(self, x): return helper(x) + TABLE["a"][0]
class Net(Base):
    depth = 3
    def features(self, x): return [y + WEIGHTS[0] * PART.by for y in self.forward(x)]
    @property
    def width(self): return 1
    @staticmethod
    def make(): return (lambda: 4)()
"""
EDITS = {
    "a method": ("x * SCALE", "x + SCALE"), "a constant": ("SCALE = 2.0", "SCALE = 3.0"), "a table": ("[1, 2]", "[1, 3]"),
    "an array": ("arange(3.0)", "arange(3.0) + 1"), "a class attribute": ("depth = 3", "depth = 4"),
    "a base class": ('TABLE["a"][0]', 'TABLE["a"][1]'), "a property": ("return 1", "return 2"),
    "a nested function": ("lambda: 4", "lambda: 5"), "an object": ("Inner(3)", "Inner(4)"),
    "its class": ("factor = 1", "factor = 2"),
}  # fmt: skip


@pytest.mark.parametrize("edit", EDITS)
def test_a_cell_that_is_run_again_changes_the_version(notebook, edit):
    versions = []
    for cell in (CELLS, CELLS, CELLS.replace(*EDITS[edit])):
        registry = Registry("backbone")
        registry.register("net")(notebook(cell).Net)
        versions.append(registry.get("net")[0].version)
    assert versions[0] == versions[1] != versions[2]
    assert versions[0].startswith("1+live-")


def test_a_helper_that_is_defined_anew_changes_the_version_without_a_new_registration(notebook):
    registry = Registry("backbone")
    registry.register("net")(notebook(CELLS).Net)
    before = registry.get("net")[0].version
    notebook("def unused(x): return -x")
    assert registry.get("net")[0].version == before
    notebook("def helper(x): return -x")
    assert registry.get("net")[0].version != before


def test_the_file_that_registers_a_librarys_function_counts(tmp_path):
    versions = []
    for width in (16, 32):
        path = tmp_path / "registering.py"
        path.write_text(
            f"import functools, json\nregister('lib')(functools.partial(json.JSONDecoder, strict={width > 16}))\n"
        )
        registry = Registry("backbone")
        exec(
            compile(path.read_text(), str(path), "exec"),
            {"register": registry.register, "__name__": "registering"},
        )
        versions.append(registry.get("lib")[0].version)
    assert versions[0] != versions[1]
    registry.register("p")(functools.partial(print, 3))  # neither a file nor a module of its own


# Within one process, and over several

PLUGIN = """
import sys; sys.path.insert(0, {folder!r})
from dataclasses import dataclass
from vitbench import register_protocol
from vitbench.api import Adapted, Protocol
import helper_of_plugin

@register_protocol("constant-of-helper")
@dataclass(frozen=True)
class Constant(Protocol):
    def depends_on_seed(self, budget):
        return False

    def adapt(self, data):
        import torch
        head = torch.nn.Linear(data.backbone.feature_dim, data.num_classes)
        torch.nn.init.zeros_(head.weight)
        with torch.no_grad():
            head.bias.copy_(torch.eye(data.num_classes)[helper_of_plugin.CLASS])
        return Adapted(data.backbone, head, trained_backbone=False)
"""


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(plugins, "_loaded", {})
    path = tmp_path / "plugin.py"
    path.write_text(PLUGIN.format(folder=str(tmp_path)))
    with PROTOCOLS.restored(), BACKBONES.restored():
        yield path
    sys.modules.pop("helper_of_plugin", None)


def test_an_edited_helper_is_run_again_within_one_process(plugin, tmp_path):
    scores = []
    for wanted in (0, 0, 5):
        (tmp_path / "helper_of_plugin.py").write_text(f"CLASS = {wanted}\n")
        (record,) = vitbench.run(
            "quickstart", backbones=["raw_pixels"], tasks=["digits"], protocols=["constant-of-helper"], budgets=["full"],
            plugins=[str(plugin)], out=tmp_path / "run", seeds=[0], limit=50,
        )  # fmt: skip
        scores.append((record.key, record.metrics["top1"].value))
    assert scores[0] == scores[1]
    assert scores[0][0] != scores[2][0]
    assert scores[0][1] != scores[2][1]
