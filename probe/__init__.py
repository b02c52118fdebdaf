"""Ask of a convolutional network what it learned, how fragile it is, and which parts do the work."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_LAZY = {
    "load_model": "probe.models.load",
    "LoadedModel": "probe.models.loaded",
    "load_images": "probe.data.load",
    "ImageSet": "probe.data.images",
    "write_report": "probe.report.render",
    "Report": "probe.core.document",
    "ProbeError": "probe.core.errors",
}

if TYPE_CHECKING:
    from probe.core.document import Report as Report
    from probe.core.errors import ProbeError as ProbeError
    from probe.data.images import ImageSet as ImageSet
    from probe.data.load import load_images as load_images
    from probe.models.load import load_model as load_model
    from probe.models.loaded import LoadedModel as LoadedModel
    from probe.report.render import write_report as write_report

__all__ = ["__version__", *sorted(_LAZY)]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that ``import probe`` loads no torch."""
    if name not in _LAZY:
        raise AttributeError(f"module 'probe' has no attribute '{name}'")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
