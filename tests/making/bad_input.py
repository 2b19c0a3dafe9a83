"""Hypothesis strategies for hostile input, and the command run on it."""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from tests.making.command import vitbench

FAST = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)


SMALLEST = {
    "name": "t", "backbones": [{"name": "raw_pixels", "size_px": 4}], "tasks": ["digits"], "protocols": ["knn"], "limit": 40,
}  # fmt: skip


NASTY = st.one_of(
    st.sampled_from(
        ["../up", "../../etc/passwd", "/etc/passwd", "a\x00b", "a\nb", "\x1b[31mred", "'; drop", '"><script>alert(1)</script>',
         "x" * 10_000, "dıgits", "dіgits", "ﬁ", "\u202eabc", "", " ", "-rf", "~", "$(id)", "%s%n", "{{7*7}}", "CON"]
    ),
    st.text(max_size=30),
)  # fmt: skip


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | NASTY,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NASTY, inner, max_size=3),
    max_leaves=8,
)


def handled(*arguments):
    """The command's exit code and output; neither a traceback, nor a bug of vitbench, nor control characters are in it.

    `vitbench.cli.main` is what the shell calls, and its last line of defence must never be needed here: a message that
    speaks of a fault of vitbench is a failure of the test.
    """
    done = vitbench(*arguments)
    assert "Traceback" not in done.stderr
    assert "fault of vitbench" not in done.stderr, done.stderr
    assert not any(c in done.stdout + done.stderr for c in "\x1b\x00\u202e")
    return done.returncode or 0, done.stdout, done.stderr
