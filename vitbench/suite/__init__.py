"""Suite files: YAML to a flat list of Jobs. All mistakes are found before anything is run."""

from vitbench.suite.expand import Overrides, expand
from vitbench.suite.read import find_suite, packaged_suites, read_suite

__all__ = ["Overrides", "expand", "find_suite", "packaged_suites", "read_suite"]
