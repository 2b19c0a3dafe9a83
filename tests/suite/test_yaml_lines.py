import pytest

from vitbench.core.errors import UsageError
from vitbench.suite.yaml_lines import parse, parse_value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001), ("1E3", 1000.0), (".5", 0.5), ("3", 3), ("-2", -2), ("true", True), ("no", "no"), ("on", "on"),
        ("1_000", "1_000"), ("0x10", "0x10"), ("2026-01-01", "2026-01-01"), ("12:30:00", "12:30:00"), ("~", None),
        ("timm:vit", "timm:vit"), ("[1-shot, full]", ["1-shot", "full"]), ("'1'", "1"), ("08", 8),
    ],
)  # fmt: skip
def test_scalars_are_what_they_look_like(text, value):
    found = parse_value(text)
    assert found == value
    assert type(found) is type(value)


def test_every_value_knows_its_line():
    located = parse("a: 1\nb:\n  - x\n  - c: 2\n", "f.yaml")
    assert located.where(("a",)) == "f.yaml:1"
    assert located.where(("b", 1, "c")) == "f.yaml:4"
    assert located.where(("b", 1, "missing")) == "f.yaml:4"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "f.yaml:"),
        ("a: 1\na: 2", "f.yaml:2: duplicate key 'a'"),
        ("a: !!python/object/apply:os.system ['true']", "f.yaml:1: the YAML tag"),
        ("a: !!binary aGk=", "tag"),
        ("\x00", "not valid YAML"),
        ("a: &x [*x]", "not valid YAML"),
        ("a: " + "[" * 5000, "not valid YAML"),
    ],
)
def test_mistakes_name_the_line(text, message):
    with pytest.raises(UsageError, match=message):
        parse(text, "f.yaml")


def test_a_billion_laughs_are_refused():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)]
    with pytest.raises(UsageError, match="aliases"):
        parse("\n".join(lines), "f.yaml")
