"""Attacks with validity checks: ``run(model, images, AdversarialConfig(...))`` returns a Report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probe.core.lazy import lazy_exports

if TYPE_CHECKING:
    from studies.adversarial.config import AdversarialConfig as AdversarialConfig
    from studies.adversarial.study import ComparisonModels as ComparisonModels
    from studies.adversarial.study import run as run

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "run": "studies.adversarial.study",
        "ComparisonModels": "studies.adversarial.study",
        "AdversarialConfig": "studies.adversarial.config",
    },
)

__all__ = ["AdversarialConfig", "ComparisonModels", "run"]
