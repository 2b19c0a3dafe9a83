"""Errors of any kind become the record of one failed job."""

import pytest

from tests.making.jobs import make_job
from vitbench.engine.outcome import failed
from vitbench.engine.run import Overrides, RunOptions, run_suite

ODD = """\
import torch
from vitbench import register_backbone
from vitbench.api import InputSpec

class Own(BaseException):
    pass

class Mute(Exception):
    def __str__(self):
        raise RuntimeError("no")

@register_backbone("odd")
class Odd(torch.nn.Module):
    "Fails in a way of its own."
    input, feature_dim = InputSpec(8, (0.5,) * 3, (0.5,) * 3), 4

    def features(self, images):
        raise {error}
"""


@pytest.mark.parametrize(
    ("error", "said", "workers"),
    [
        ("Mute()", "(its message cannot be shown)", 1),
        ("Own('gone')", "gone", 1),
        pytest.param("Own('gone')", "gone", 2, marks=pytest.mark.slow),
        ("GeneratorExit('left')", "left", 1),
    ],
)
def test_an_error_of_any_kind_is_its_jobs_alone(suite_file, tmp_path, error, said, workers):
    plugin = tmp_path / "odd.py"
    plugin.write_text(ODD.replace("{error}", error))
    suite = suite_file(
        "name: odd\nlimit: 20\nbackbones: [odd, raw_pixels]\ntasks: [digits]\nprotocols: [ridge_probe]\n"
    )
    options = RunOptions(device="cpu", workers=workers)
    result = run_suite(str(suite), tmp_path / "run", Overrides(plugins=[str(plugin)]), options)
    messages = {record.job.backbone.name: record.failure for record in result.records}
    assert said in messages["odd"].message
    assert "odd.py:18" in f"{messages['odd'].message} {messages['odd'].where}"
    assert messages["odd"].phase == "build"
    assert messages["raw_pixels"] is None


def test_a_name_that_is_not_utf8_fits_into_a_record():
    record = failed(make_job(), "cpu", OSError("caf\udce9.jpg"))
    assert record.failure.message == r"caf\udce9.jpg"
    assert record.model_dump_json()
