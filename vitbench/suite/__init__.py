"""Suite files: YAML to a flat list of Jobs, every mistake found before anything starts."""

from vitbench.suite.expand import Overrides, expand
from vitbench.suite.read import find_suite, packaged_suites, read_suite

__all__ = ["Overrides", "expand", "find_suite", "packaged_suites", "read_suite"]
