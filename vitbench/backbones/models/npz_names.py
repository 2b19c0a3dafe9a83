"""Read Google's .npz checkpoints under the array names of the ViT and BiT releases (docs/protocols.md#checkpoints)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vitbench.backbones.models.archives import refuse_bomb
from vitbench.core.errors import DataMissingError, Problem, UsageError

Array = NDArray[np.float32]


class Arrays(dict[str, Array]):
    """Arrays by name, which remember what was read; `elsewhere` are the file's arrays of other networks and of optimisers."""

    def __init__(self, arrays: Mapping[str, Array], elsewhere: Iterable[str] = ()) -> None:
        super().__init__(arrays)
        self.elsewhere = tuple(elsewhere)
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> Array:
        self._is_read(name)
        return super().__getitem__(name)

    def _is_read(self, name: str) -> None:
        self.read.add(name)

    def inside(self, folder: str) -> Arrays:
        """The arrays whose names begin with `folder`, without it; what is read of them counts as read here."""
        return _Inside(self, folder)


class _Inside(Arrays):
    def __init__(self, whole: Arrays, folder: str) -> None:
        super().__init__(
            {name.removeprefix(folder): value for name, value in whole.items() if name.startswith(folder)}
        )
        self._whole, self._folder = whole, folder

    def _is_read(self, name: str) -> None:
        self._whole._is_read(self._folder + name)


_PREFIXES = ("opt/target/", "params/img/", "params/", "target/")
# From big_vision's names to the original ones; big_vision's LayerNorm_1 is the second norm of a block. Applied in this order.
_RENAMED = (
    (r"^pos_embedding$", "Transformer/posembed_input/pos_embedding"),
    (
        r"(encoderblock(?:_\d+)?)/(?:MHDPA_0|MultiHeadDotProductAttention_0)/",
        r"\1/MultiHeadDotProductAttention_1/",
    ),
    (r"(encoderblock(?:_\d+)?)/MlpBlock_0/", r"\1/MlpBlock_3/"),
    (r"(encoderblock(?:_\d+)?)/LayerNorm_1/", r"\1/LayerNorm_2/"),
    (r"^encoder_norm/", "Transformer/encoder_norm/"),
    (r"standardized_conv2d_\d+", "standardized_conv2d"),
    (r"group_norm_\d+", "group_norm"),
)
_SCANNED = "Transformer/encoderblock/"


def read_npz(path: Path) -> Arrays:
    """Return all arrays of a .npz file as float32, under the original names; pickled objects are refused.

    Raises:
        DataMissingError: the file does not exist.
        UsageError: it is not a .npz file of plain arrays.
    """
    if not path.is_file():
        where = "download it: Google's checkpoints are at storage.googleapis.com/vit_models and /bit_models"
        raise DataMissingError(Problem(f"{path} does not exist", next_step=where))
    refuse_bomb(path)
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            found = {name: _float32(file[name]) for name in file.files}
    except Exception as error:
        raise UsageError(
            f"{path} is not a .npz file of plain arrays: {type(error).__name__}: {error}"
        ) from error
    return canonical(found)


def _float32(array: NDArray[np.generic]) -> Array:
    """Convert to float32. NumPy stores bfloat16 as two raw bytes: the upper half of a float32."""
    if array.dtype.kind == "V" and array.dtype.itemsize == 2:
        widened: Array = (array.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
        return widened
    return np.asarray(array, dtype=np.float32)


def canonical(arrays: Mapping[str, Array]) -> Arrays:
    """Rename arrays to the original releases' names; scanned blocks are unstacked, optimiser states and text towers left."""
    names = list(arrays)
    prefix = next((one for one in _PREFIXES if any(name.startswith(one) for name in names)), "")
    chosen = {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}
    elsewhere = [name for name in names if not name.startswith(prefix)]
    renamed: dict[str, Array] = {}
    for name, value in chosen.items():
        for pattern, replacement in _RENAMED:
            name = re.sub(pattern, replacement, name)
        if name.startswith(_SCANNED):
            rest = name.removeprefix(_SCANNED)
            renamed |= {f"Transformer/encoderblock_{i}/{rest}": part for i, part in enumerate(value)}
        else:
            renamed[name] = value
    return Arrays(_with_class_position(renamed), elsewhere)


def _with_class_position(arrays: dict[str, Array]) -> dict[str, Array]:
    """Add a zero position embedding for the class token: newer big_vision adds positions before it prepends that token."""
    key = "Transformer/posembed_input/pos_embedding"
    if "cls" in arrays and key in arrays:
        tokens = arrays[key].shape[1]
        if round(tokens**0.5) ** 2 == tokens:
            zeros = np.zeros((1, 1, arrays[key].shape[2]), np.float32)
            return {**arrays, key: np.concatenate([zeros, arrays[key]], axis=1)}
    return arrays
