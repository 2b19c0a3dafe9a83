"""Rules of the house that no linter knows: where files go, which way imports go, what code may not do."""

import ast
import re
import subprocess
import tomllib
from graphlib import TopologicalSorter
from importlib.util import find_spec
from itertools import permutations

import grimp
import pytest

from tests.making.paths import ROOT, TESTS

FILES = sorted((ROOT / "vitbench").rglob("*.py"))
TEST_FILES = [file for file in sorted(TESTS.rglob("*.py")) if "example_plugin" not in file.parts]
ROOMS = {
    "backbones", "cli", "compute", "core", "data", "engine", "protocols", "published", "report", "store", "suite", "tasks",
}  # fmt: skip
NOT_MIRRORED = {"benchmarks", "example_plugin", "golden", "gpu", "making", "repository"}
MOST_ARROWS = 52  # README's drawing shows each


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_files_are_short(file):
    assert len(file.read_text().splitlines()) <= 320


def test_generators_are_made_in_one_place():
    """Nothing but seeding.py seeds torch's global stream; `Generator.manual_seed` is a generator of one's own."""
    for file in FILES:
        if file.name not in ("seeding.py", "plugin_template.py"):
            assert not re.search(r"torch\.manual_seed|np\.random\.seed|random\.seed", file.read_text()), file


def test_no_room_is_called_utils():
    assert not [f for f in FILES if f.stem in ("utils", "helpers", "manager", "common", "misc")]


def test_nothing_executes_pickles():
    for file in FILES:
        text = file.read_text()
        assert "pickle.load" not in text
        assert not re.search(r"yaml\.(load|unsafe_load|full_load)\(", text), file
        for call in re.findall(r"torch\.load\([^)]*\)", text):
            assert "weights_only=True" in call
        for call in re.findall(r"np\.load\(.*\)", text):
            assert "allow_pickle=False" in call


# Written apart, so that this file does not contain what it looks for.
FOREIGN = "|".join(["index" + "-url", "find" + "-links", "/sim" + "ple/", "/wo" + "rk/"])


def test_no_registry_and_no_machine_path_is_named():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    unpacked = [*ROOT.glob("*.*"), *FILES, *(ROOT / "suites").glob("*"), *(ROOT / "tests").rglob("*.*")]
    for name in listed or unpacked:
        file = ROOT / name
        if file.suffix in (".py", ".md", ".toml", ".yaml", ".json", ".html", "") and file.is_file():
            assert not re.search(FOREIGN, file.read_text(errors="replace")), name


@pytest.fixture(scope="module")
def arrows():
    """Pairs (importer, imported) of rooms, without what is imported for type checkers only."""
    graph = grimp.build_graph("vitbench", exclude_type_checking_imports=True, cache_dir=None)
    rooms = graph.find_children("vitbench")
    for room in rooms:
        if graph.find_children(room):
            graph.squash_module(room)
    return [
        (above, below)
        for above, below in permutations(["vitbench", *sorted(rooms)], 2)
        if graph.direct_import_exists(importer=above, imported=below)
    ]


def test_the_package_holds_its_rooms_and_nothing_else():
    found = {path.name for path in (ROOT / "vitbench").iterdir()} - {"__pycache__"}
    assert found == ROOMS | {"__init__.py", "__main__.py", "api.py", "py.typed"}


def test_few_rooms_import_each_other_and_none_in_a_cycle(arrows):
    assert len(arrows) <= MOST_ARROWS
    below = {}
    for importer, imported in arrows:
        below.setdefault(importer, set()).add(imported)
    assert tuple(TopologicalSorter(below).static_order())  # raises CycleError, which names the cycle


def test_imports_for_type_checkers_go_down_too():
    """import-linter leaves these out, and a lazily imported module is known by them alone."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    floor = {room.strip(): -i for i, layer in enumerate(layers) for room in layer.split("|")}
    graph = grimp.build_graph("vitbench", exclude_type_checking_imports=False, cache_dir=None)
    room = {module: ".".join(module.split(".")[:2]) for module in graph.modules}
    pairs = [
        (above, below)
        for above in graph.modules
        for below in graph.find_modules_directly_imported_by(above)
        if room[above] != room[below] and {room[above], room[below]} <= set(floor)
    ]
    assert len(pairs) > 300
    assert [pair for pair in pairs if floor[room[pair[1]]] >= floor[room[pair[0]]]] == []


def calls(file, name):
    """The literal first arguments of all calls of a function in a file."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == name and node.args:
            argument = node.args[0]
            if isinstance(argument, ast.Constant):
                yield argument.value


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_no_import_is_hidden_from_type_checkers(file):
    """A module of vitbench is imported by a statement; one that is imported lazily exists."""
    assert not [name for name in calls(file, "import_module") if name.startswith("vitbench")]
    for name in calls(file, "lazy_module"):
        assert find_spec(name), f"lazy_module({name!r})"


def imports(file):
    """The names of all modules that a file imports, and `module.name` for `from module import name`."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("file", TEST_FILES, ids=lambda f: str(f.relative_to(TESTS)))
def test_no_test_imports_from_another(file):
    """What two tests share is in tests/making; the scripts of tests/benchmarks share some of theirs, also with GPU tests."""
    measures = file.parent.name in ("benchmarks", "gpu")
    shared = ("tests.making", "tests.benchmarks") if measures else ("tests.making",)
    for name in imports(file):
        assert not any(part.startswith("test_") or part == "conftest" for part in name.split(".")), name
        assert not name.startswith("tests.") or name.startswith(shared), name


def test_tests_mirror_the_package():
    assert [path.name for path in TESTS.glob("*.py")] == ["conftest.py"]
    for file in TESTS.rglob("test_*.py"):
        folder = file.parent.relative_to(TESTS)
        assert folder.parts[0] in NOT_MIRRORED or (ROOT / "vitbench" / folder).is_dir(), file


def test_text_is_read_and_written_as_utf8_by_name():
    """Whatever the locale says: files of one machine are read on another."""
    found = []
    for path in (ROOT / "vitbench").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            is_call = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
            reads_text = is_call and node.func.attr in ("read_text", "write_text")
            if reads_text and "encoding" not in {keyword.arg for keyword in node.keywords}:
                found.append(f"{path.name}:{node.lineno}")
    assert found == []


def test_means_are_the_same_in_every_python():
    """Built-in `sum` rounds otherwise since Python 3.12, by which a page's last digit moves: `math.fsum` and `fmean` do not."""
    found = []
    for path in sorted((ROOT / "vitbench").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (
                isinstance(node, ast.BinOp)
                and isinstance(node.op, ast.Div)
                and isinstance(node.left, ast.Call)
            ):
                continue
            exact = any(
                isinstance(argument, ast.Call) and ast.unparse(argument).startswith("Fraction")
                for argument in node.left.args
            )
            if isinstance(node.left.func, ast.Name) and node.left.func.id == "sum" and not exact:
                found.append(f"{path}:{node.lineno}")
    assert not found
