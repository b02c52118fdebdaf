"""Everything that trains: ``probe train``, its options and its files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probe.core.lazy import lazy_exports

if TYPE_CHECKING:
    from probe.train.trainer import train as train

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "train": "probe.train.trainer",
    },
)

__all__ = ["train"]
