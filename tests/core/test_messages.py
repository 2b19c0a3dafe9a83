"""What messages advise: nothing that is undamaged is deleted or moved on our word."""

import ast
import re
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "vitbench"
ADVICE = re.compile(
    r"\b(delet\w*|remov\w*|discard\w*|throw\w*|eras\w*|rm -\w*|unlink|move \w+ (away|aside))\b", re.IGNORECASE
)
# Each message with such a word, and why it may have it.
ALLOWED = {
    "cli/prune.py": "the verb that deletes, on request only",
    "data/decode.py": "images that cannot be decoded: they are damaged",
    "data/erasing.py": "the name of an augmentation, not advice",
    "data/augment.py": "the same",
}


def messages(path):
    """The string constants of a file that are no docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value


def advising(folder):
    return {
        path.relative_to(folder).as_posix(): found
        for path in folder.rglob("*.py")
        if (found := [text for text in messages(path) if ADVICE.search(text)])
    }


def test_only_what_is_damaged_or_asked_for_is_advised_to_be_deleted():
    found = advising(PACKAGE)
    assert set(found) == set(ALLOWED), {name: found[name] for name in set(found) - set(ALLOWED)}


def test_such_advice_is_seen_wherever_it_stands(tmp_path):
    (tmp_path / "a.py").write_text(
        '"""Delete nothing."""\n\ndef f():\n    """Remove it."""\n    return f"{1}: move this away"\n',
        encoding="utf-8",
    )
    (tmp_path / "b.py").write_text('"""Deleted."""\nx = ["keep it"]\n', encoding="utf-8")
    assert advising(tmp_path) == {"a.py": [": move this away"]}
