"""Networks: by name or in memory, with their normalisation inside, as a ``LoadedModel``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probe.core.lazy import lazy_exports

if TYPE_CHECKING:
    from probe.models.load import catalogue as catalogue
    from probe.models.load import load_model as load_model
    from probe.models.loaded import LoadedModel as LoadedModel

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "LoadedModel": "probe.models.loaded",
        "load_model": "probe.models.load",
        "catalogue": "probe.models.load",
    },
)

__all__ = ["LoadedModel", "catalogue", "load_model"]
