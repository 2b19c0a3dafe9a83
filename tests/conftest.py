"""Strictness for everyone: one thread, no network, a cache of one's own."""

import os
import signal
import socket

import psutil
import pytest

from tests.making.plugins import SMALL
from tests.making.suites import TINY

os.environ.setdefault("OMP_NUM_THREADS", "1")


# What a shell has started in the background ignores Ctrl-C, and so would all that the tests start, to see what it does there.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    """The README's commands first: they take longest, and nothing should wait for them at the end."""
    items.sort(key=lambda item: item.path.name != "test_readme.py")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory, worker_id):
    """A cache that no other session has filled; shared by the tests of one worker."""
    os.environ["VITBENCH_CACHE"] = str(tmp_path_factory.getbasetemp() / f"cache-{worker_id}")


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    """Only this machine may be spoken to."""
    connect = socket.socket.connect
    own = {address.address for found in psutil.net_if_addrs().values() for address in found}

    def local_only(self, address):
        host = address[0] if isinstance(address, tuple) else ""
        if host not in {
            "",
            "127.0.0.1",
            "::1",
            "localhost",
            *own,
        }:  # Ray's nodes listen on the machine's address
            raise OSError(f"a test reached for the network: {address}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", local_only)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    """A folder with a tiny copy of every TFDS data set, made once for all workers."""
    from filelock import FileLock

    from tests.making.miniatures import prepare_all

    shared = tmp_path_factory.getbasetemp().parent / "prepared"
    with FileLock(f"{shared}.lock"):
        if not shared.is_dir():
            prepare_all(shared)
    return shared


@pytest.fixture
def data_dir(prepared, monkeypatch):
    """The tiny data sets are where data sets are looked for."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(prepared))
    return prepared


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """As in a worker: torch's memory is not returned to the system either, which costs a page fault each time."""
    from vitbench.compute.environment import settle

    settle(1)


@pytest.fixture(scope="session", autouse=True)
def _builtins():
    from vitbench.engine.components import load_all

    load_all()


@pytest.fixture
def suite_file(tmp_path):
    """Write a suite and return its path."""

    def write(text, name="suite.yaml"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


@pytest.fixture
def tiny(suite_file):
    """A suite that runs in a second: 4 jobs."""
    return suite_file(TINY, "tiny.yaml")


@pytest.fixture
def packed(tiny, tmp_path):
    """The tiny suite, run in tmp_path / "run", as a submission."""
    import vitbench
    from vitbench.store.submission import pack

    vitbench.run(tiny, tmp_path / "run")
    assert pack(tmp_path / "run", tmp_path / "s.zip") == 4
    return tmp_path / "s.zip"


@pytest.fixture
def plugin(tmp_path):
    """The path of a plugin with the backbone that the suite TUNED fine-tunes."""
    (tmp_path / "small.py").write_text(SMALL)
    return str(tmp_path / "small.py")


@pytest.fixture(scope="session")
def tiny_records(tmp_path_factory):
    """The records of the tiny suite with one failure among them, for whatever reads records."""
    import vitbench

    folder = tmp_path_factory.mktemp("tiny")
    suite = folder / "tiny.yaml"
    suite.write_text(TINY)
    records = vitbench.run(suite, folder / "run")
    assert [record.status for record in records] == ["ok"] * 4
    return records
