"""The Effort of a protocol: what adaptation costs beyond features."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Effort:
    """The number of images that adaptation passes forward and backward, and their size (None: the backbone's own).

    `runs` are the training runs that go backward, which are about equally long.
    """

    images_forward: int
    images_backward: int
    size_px: int | None = None
    runs: int = 1
