"""What everything rests on: errors, the report as data, statistics, state that is restored, seeds, jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probe.core.lazy import lazy_exports

if TYPE_CHECKING:
    from probe.core.blocks import Column as Column
    from probe.core.blocks import Figure as Figure
    from probe.core.blocks import Gallery as Gallery
    from probe.core.blocks import Note as Note
    from probe.core.blocks import Table as Table
    from probe.core.document import Check as Check
    from probe.core.document import Report as Report
    from probe.core.document import Result as Result
    from probe.core.document import Section as Section
    from probe.core.errors import CannotRunError as CannotRunError
    from probe.core.errors import NotApplicableError as NotApplicableError
    from probe.core.errors import ProbeError as ProbeError
    from probe.core.errors import UsageError as UsageError
    from probe.core.registry import Registry as Registry
    from probe.core.seeds import generator as generator
    from probe.core.state import fingerprint as fingerprint

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Check": "probe.core.document",
        "Column": "probe.core.blocks",
        "Figure": "probe.core.blocks",
        "Gallery": "probe.core.blocks",
        "Note": "probe.core.blocks",
        "Report": "probe.core.document",
        "Result": "probe.core.document",
        "Section": "probe.core.document",
        "Table": "probe.core.blocks",
        "ProbeError": "probe.core.errors",
        "UsageError": "probe.core.errors",
        "CannotRunError": "probe.core.errors",
        "NotApplicableError": "probe.core.errors",
        "Registry": "probe.core.registry",
        "fingerprint": "probe.core.state",
        "generator": "probe.core.seeds",
    },
)

__all__ = [
    "CannotRunError",
    "Check",
    "Column",
    "Figure",
    "Gallery",
    "NotApplicableError",
    "Note",
    "ProbeError",
    "Registry",
    "Report",
    "Result",
    "Section",
    "Table",
    "UsageError",
    "fingerprint",
    "generator",
]
