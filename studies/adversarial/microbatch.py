"""Work on a batch in parts that fit into memory."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from probe.core.errors import CannotRunError
from probe.core.memory import is_out_of_memory


@dataclass
class MicroBatcher:
    """The number of images that are processed at once: halved when memory runs out, and never raised again.

    ``messages`` are the sentences about it, for console and report.
    """

    limit: int
    messages: list[str] = field(default_factory=list)

    def map(self, rows: Tensor, work: Callable[[Tensor], list[Tensor]]) -> list[Tensor]:
        """Return the tensors of ``work``, applied to parts of at most ``limit`` rows and concatenated.

        ``work`` gets a part of ``rows`` and returns tensors with one row for each. Running out of memory halves the
        limit and repeats that part; raises CannotRunError with one image left.
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
        self.messages.append(
            f"Memory ran out with {size} images at once: the run continued with {self.limit}."
        )
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
