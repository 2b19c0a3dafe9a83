"""Suite files of any bytes and any values: an error message and an exit code, never a traceback."""

import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from tests.making.bad_input import FAST, SMALLEST, VALUES, handled


def planned(folder, data):
    """Check that a suite of these bytes is planned or refused with a message, and that no other file appears."""
    (folder / "s.yaml").write_bytes(data)
    code, _, err = handled("run", folder / "s.yaml", "--out", folder / "run", "--task", "digits", "--dry-run")
    assert code in (0, 2, 3)
    assert code == 0 or err.startswith("error: ")
    assert {path.name for path in folder.iterdir()} <= {"s.yaml", "run"}


@FAST
@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
@example(b"\xff\xfe")
@example(b"a: &a [*a]")
@example(b"a: !!python/object/apply:os.system ['touch /tmp/x']")
@example(b"name: t\nname: u\n")
@example(b"[" * 5000)
@example(("&a [" + "*a," * 9 + "1]").encode())
def test_a_suite_of_any_bytes(tmp_path, data):
    planned(tmp_path, data)


@FAST
@given(
    st.sampled_from([*SMALLEST, "seeds", "budgets", "dtype", "defaults", "description", "preprocess"]), VALUES
)
@example("name", "../../x")
@example("seeds", [2**70])
@example("limit", float("nan"))
@example("protocols", [{"name": "knn", "k": 10**400}])
@example("backbones", [{"name": "raw_pixels", "size_px": 10**9}])
@example("backbones", [{"name": "timm:" + "x" * 10_000}])
def test_a_suite_with_any_value_anywhere(monkeypatch, tmp_path, key, value):
    monkeypatch.setattr("vitbench.engine.speeds.CALIBRATION_S", 0.0)
    text = yaml.safe_dump({**SMALLEST, key: value}, allow_unicode=True)
    planned(tmp_path, text.encode("utf-8", "surrogatepass"))
