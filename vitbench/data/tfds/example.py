"""One stored example, parsed from a tf.Example without TensorFlow, and rules that compute a label from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Example:
    """The features of a stored example. Absent ones read as empty, because TFDS does not store empty sequences."""

    def __init__(self, record: bytes) -> None:
        """Parse a stored record.

        Raises:
            ValueError: the bytes are not a tf.Example.
        """
        proto, malformed = _proto()
        try:
            self._features = proto.FromString(record).features.feature
        except malformed as error:
            raise ValueError(f"not a tf.Example: {error}") from error

    def ints(self, name: str) -> list[int]:
        """The values of an integer feature."""
        return list(self._features[name].int64_list.value)

    def floats(self, name: str, width: int = 1) -> NDArray[np.float32]:
        """The values of a float feature as (n, width) float32; (0, width) if it is absent."""
        return np.asarray(self._features[name].float_list.value, dtype=np.float32).reshape(-1, width)

    def data(self, name: str) -> bytes:
        """The first value of a bytes feature.

        Raises:
            ValueError: the feature is absent.
        """
        values = self._features[name].bytes_list.value
        if not values:
            raise ValueError(f"it has no feature {name!r}")
        return bytes(values[0])

    def text(self, name: str) -> str:
        """The first value of a bytes feature as text."""
        return self.data(name).decode("utf-8", "backslashreplace")


Rule = Callable[[Example], int]


def stored(name: str = "label") -> Rule:
    """A rule that uses an integer feature as the label."""

    def rule(example: Example) -> int:
        values: Sequence[int] = example.ints(name)
        if len(values) != 1:
            raise ValueError(f"feature {name!r} holds {len(values)} values instead of one label")
        return values[0]

    return rule


@cache
def _proto() -> tuple[Any, type[Exception]]:
    from google.protobuf.message import DecodeError
    from tensorflow_datasets.proto import tf_example_pb2

    return tf_example_pb2.Example, DecodeError
