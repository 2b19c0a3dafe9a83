"""The tokens of one block of a network, by what they stand for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vitbench.core.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor


class NoTokensError(UsageError):
    """A backbone does not offer tokens, or not those that are asked for."""


@dataclass(frozen=True)
class Tokens:
    """A class token (B, D) or None, register and distillation tokens (B, R, D), R >= 0, and patch tokens (B, T, D).

    A network's own order is the same: class token, registers, patches.
    """

    class_token: Tensor | None
    registers: Tensor
    patches: Tensor


def split(tokens: Tensor, prefix: int, *, has_class_token: bool) -> Tokens:
    """Tokens (B, P + T, D) taken apart: of the first P = `prefix`, the very first may be a class token."""
    class_token = tokens[:, 0] if has_class_token else None
    return Tokens(class_token, tokens[:, int(has_class_token) : prefix], tokens[:, prefix:])
