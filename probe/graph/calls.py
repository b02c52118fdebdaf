"""One call of a tensor operation, as the receptive-field rules see it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from probe.graph.spans import Field


@dataclass(frozen=True)
class Call:
    """An operation ``name`` with its arguments by name, its tensor ``outputs``, and the module it happened in.

    ``field`` gives the field of a tensor, None for what does not depend on the image. ``run`` performs the
    operation again with some arguments replaced. ``image`` is the image's height and width.
    """

    name: str
    values: dict[str, Any]
    outputs: tuple[Tensor, ...]
    where: str
    image: tuple[int, int]
    field: Callable[[Any], Field | None]
    run: Callable[[dict[str, Any]], Any]

    @property
    def main(self) -> Tensor:
        """The first argument."""
        tensor: Tensor = next(iter(self.values.values()))
        return tensor


Rule = Callable[[Call], Field | tuple[Field | None, ...] | None]
"""Gives the field of every output, or one for each; NotImplementedError means that the call is not understood."""
