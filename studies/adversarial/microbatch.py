"""Work over a batch in as many parts as memory needs."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from probe.core.errors import CannotRunError

_SIGNS = ("not enough memory", "can't allocate memory", "out of memory", "cannot allocate memory")


@dataclass
class MicroBatcher:
    """How many images are worked on at once; halved when memory runs out, and never raised again.

    ``told`` are the sentences about it, for console and report.
    """

    limit: int
    told: list[str] = field(default_factory=list)

    def over(self, rows: Tensor, work: Callable[[Tensor], list[Tensor]]) -> list[Tensor]:
        """Return ``work(rows)`` done in parts of at most ``limit`` rows, its tensors concatenated.

        ``work`` gets a part of ``rows`` and returns tensors with one row for each. Out of memory halves the limit
        and does that part again; with one image left, CannotRunError says so.
        """
        parts: list[list[Tensor]] = []
        start = 0
        while start < len(rows):
            part = rows[start : start + self.limit]
            try:
                parts.append(work(part))
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self._halve(len(part), error)
                continue
            start += len(part)
        return [torch.cat(column) for column in zip(*parts, strict=True)]

    def _halve(self, size: int, error: BaseException) -> None:
        if size <= 1:
            raise CannotRunError(
                "There is not enough memory for a single image: use --img-size, another --device, or a smaller network."
            ) from error
        self.limit = size // 2
        self.told.append(f"Memory ran out at {size} images at once: the run went on with {self.limit}.")
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory ran out."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in _SIGNS)
