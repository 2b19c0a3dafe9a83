"""One stored example: the few features that a task needs, read off the tf.Example record without TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Example:
    """A parsed record. What is absent reads as empty: TFDS stores an empty sequence as nothing at all."""

    def __init__(self, record: bytes) -> None:
        """Parse a record.

        Raises:
            ValueError: the bytes are no tf.Example.
        """
        proto, malformed = _proto()
        try:
            self._features = proto.FromString(record).features.feature
        except malformed as error:
            raise ValueError(f"not a tf.Example: {error}") from error

    def ints(self, name: str) -> list[int]:
        """The integers of a feature."""
        return list(self._features[name].int64_list.value)

    def floats(self, name: str, width: int = 1) -> NDArray[np.float32]:
        """The numbers of a feature as (n, width) float32; (0, width) if there are none."""
        return np.asarray(self._features[name].float_list.value, dtype=np.float32).reshape(-1, width)

    def data(self, name: str) -> bytes:
        """The bytes of a feature."""
        values = self._features[name].bytes_list.value
        if not values:
            raise ValueError(f"it has no feature {name!r}")
        return bytes(values[0])

    def text(self, name: str) -> str:
        """The bytes of a feature as text."""
        return self.data(name).decode("utf-8", "backslashreplace")


Rule = Callable[[Example], int]


def stored(name: str = "label") -> Rule:
    """The rule that takes a stored class as it is."""

    def rule(example: Example) -> int:
        values: Sequence[int] = example.ints(name)
        if len(values) != 1:
            raise ValueError(f"feature {name!r} holds {len(values)} values, a label is one")
        return values[0]

    return rule


@cache
def _proto() -> tuple[Any, type[Exception]]:
    from google.protobuf.message import DecodeError
    from tensorflow_datasets.proto import tf_example_pb2

    return tf_example_pb2.Example, DecodeError
