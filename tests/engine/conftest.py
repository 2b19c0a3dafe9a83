"""Workers, registries and runs for the tests of the engine."""

import pytest

from tests.making.plugins import FLAKY, SLOW
from vitbench.core.registry import BACKBONES, PROTOCOLS, TASKS
from vitbench.engine.worker import Worker


@pytest.fixture
def worker(tmp_path):
    return Worker("cpu", tmp_path)


@pytest.fixture
def registered():
    """Registries that forget what a test adds."""
    with BACKBONES.restored(), TASKS.restored(), PROTOCOLS.restored():
        yield


@pytest.fixture
def flaky(tmp_path, suite_file):
    plugin, marker = tmp_path / "flaky.py", tmp_path / "marker"
    plugin.write_text(FLAKY)
    marker.touch()
    suite = suite_file(
        "name: f\nseeds: [0, 1, 2]\nbackbones: [raw_pixels]\ntasks: [digits]\n"
        f"protocols: [{{name: flaky, marker: 'at:{marker}'}}]\n"
    )
    return suite, plugin, marker


@pytest.fixture
def slow(flaky):
    suite, plugin, _ = flaky
    plugin.write_text(SLOW)
    suite.write_text(suite.read_text().replace("seeds: [0, 1, 2]", "seeds: [0, 1, 2, 3, 4, 5, 6, 7]"))
    return suite, plugin
