"""A further test set of a task: other images of the same classes, such as ImageNet-V2 or ImageNet-R."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from vitbench.core.split import Split


@dataclass(frozen=True, eq=False)
class TestSet:
    """Images of a task's classes that are scored from the same adapted model as the task's own test split, by top-1.

    Attributes:
        name: Names its metric, such as `v2`; the task's own metrics have other names.
        parts: Each opens one of its splits, whose labels are the task's; a set that is whole has one part, named ''.
        classes: Those of the task's that it has, if not all: the answer is then the best of these. Labels are among them.
        size: Number of images of each part in the reference, if there is one.
        dataset: Where it comes from; `version` is that of a prepared copy.
        departures: How its data or their use differ from the reference's.
        reference_errors: By group of parts, the name up to its last underscore, the error that theirs is divided by.
    """

    __test__: ClassVar[bool] = False  # its name begins like that of a test

    name: str
    parts: Mapping[str, Callable[[], Split]]
    classes: tuple[int, ...] | None = None
    size: int | None = None
    dataset: str = ""
    version: str = ""
    departures: tuple[str, ...] = ()
    reference_errors: Mapping[str, float] = field(default_factory=dict)
