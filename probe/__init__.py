"""Ask of a convolutional network what it learned, how fragile it is, and which parts do the work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probe.core.lazy import lazy_exports

__version__ = "0.1.0"

if TYPE_CHECKING:
    from probe import attacks
    from probe.api.images import corrupt as corrupt
    from probe.api.parts import attribute as attribute
    from probe.api.parts import cut as cut
    from probe.api.parts import feature_picture as feature_picture
    from probe.api.parts import receptive_field as receptive_field
    from probe.api.parts import sites as sites
    from probe.api.studies import ablate as ablate
    from probe.api.studies import adversarial as adversarial
    from probe.api.studies import anatomy as anatomy
    from probe.api.studies import compare as compare
    from probe.api.studies import doctor as doctor
    from probe.api.studies import dossier as dossier
    from probe.api.studies import filters as filters
    from probe.core import stats
    from probe.core.errors import ProbeError as ProbeError
    from probe.data.images import ImageSet as ImageSet
    from probe.data.load import load_images as load_images
    from probe.data.memory import images as images
    from probe.models.load import load_model as load_model
    from probe.models.loaded import LoadedModel as LoadedModel
    from probe.models.wrap import wrap as wrap
    from probe.report import Report as Report
    from probe.report.render import write_report as write_report

_PLACES = {
    **dict.fromkeys(("attribute", "cut", "feature_picture", "receptive_field", "sites"), "probe.api.parts"),
    **dict.fromkeys(
        ("ablate", "adversarial", "anatomy", "compare", "doctor", "dossier", "filters"), "probe.api.studies"
    ),
    "ImageSet": "probe.data.images",
    "corrupt": "probe.api.images",
    "LoadedModel": "probe.models.loaded",
    "ProbeError": "probe.core.errors",
    "Report": "probe.report",
    "images": "probe.data.memory",
    "load_images": "probe.data.load",
    "load_model": "probe.models.load",
    "wrap": "probe.models.wrap",
    "write_report": "probe.report.render",
}
_MODULES = {"attacks": "probe.attacks", "stats": "probe.core.stats"}

__getattr__, __dir__ = lazy_exports(__name__, _PLACES, _MODULES)

__all__ = [
    "ImageSet",
    "LoadedModel",
    "ProbeError",
    "Report",
    "__version__",
    "ablate",
    "adversarial",
    "anatomy",
    "attacks",
    "attribute",
    "compare",
    "corrupt",
    "cut",
    "doctor",
    "dossier",
    "feature_picture",
    "filters",
    "images",
    "load_images",
    "load_model",
    "receptive_field",
    "sites",
    "stats",
    "wrap",
    "write_report",
]
