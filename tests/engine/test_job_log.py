"""Every job's log: what it holds, and that the run does not depend on it."""

import vitbench
from vitbench.engine.run import Overrides, plan_suite, run_suite


def test_every_job_has_a_log_with_what_went_wrong(suite_file, tmp_path):
    plugin = tmp_path / "loud.py"
    plugin.write_text(
        "import logging\nfrom dataclasses import dataclass\nfrom vitbench import register_protocol\n"
        "from vitbench.api import Protocol\n@register_protocol('loud')\n@dataclass(frozen=True)\nclass Loud(Protocol):\n"
        "    'Warns and fails.'\n    def depends_on_seed(self, budget):\n        return False\n    def adapt(self, data):\n"
        "        logging.getLogger('odd').warning('a word')\n        raise ZeroDivisionError('never')\n"
    )
    suite = suite_file("name: f\nbackbones: [raw_pixels]\ntasks: [digits]\nprotocols: [loud]\n")
    (record,) = vitbench.run(suite, tmp_path / "run", plugins=[str(plugin)])
    log = (tmp_path / "run" / "logs" / f"{record.key}.log").read_text()
    assert record.job.title in log.splitlines()[0]
    assert "data: 0." in log
    assert "a word" in log
    assert "ZeroDivisionError: never" in log
    assert not list((tmp_path / "run" / ".running").glob("*"))


def test_a_log_that_cannot_be_written_costs_nothing(tiny, tmp_path):
    for job in plan_suite(str(tiny), None, Overrides()).suite.jobs:
        (tmp_path / "run" / "logs" / f"{job.key}.log").mkdir(parents=True)
    assert run_suite(str(tiny), tmp_path / "run").failed == 0
