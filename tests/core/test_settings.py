"""Environment variables are checked before anything runs."""

import pytest

from vitbench.core.errors import UsageError
from vitbench.core.settings import number_from
from vitbench.engine.run import run_suite


@pytest.mark.parametrize("text", ["abc", "-1", "nan", "inf"])
def test_a_wrong_number_in_the_environment_is_an_error_before_anything_runs(
    tiny, tmp_path, monkeypatch, text
):
    monkeypatch.setenv("VITBENCH_CHECKPOINT_S", text)
    with pytest.raises(UsageError, match=r"\$VITBENCH_CHECKPOINT_S is .*not a number of 0 or more"):
        run_suite(str(tiny), tmp_path / "run")
    assert not (tmp_path / "run" / "records").exists()
    monkeypatch.setenv("VITBENCH_CHECKPOINT_S", "2.5")
    assert number_from("VITBENCH_CHECKPOINT_S", 60) == 2.5
