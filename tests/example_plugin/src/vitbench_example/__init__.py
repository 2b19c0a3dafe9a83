"""Importing this registers the backbone, the task and the protocol of this package."""

from vitbench_example import backbone, protocol, task

__all__ = ["backbone", "protocol", "task"]
