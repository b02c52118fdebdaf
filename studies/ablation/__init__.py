"""Remove parts of a network and measure the effect: ``run(model, images, AblationConfig(...))`` returns a Report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probe.core.lazy import lazy_exports

if TYPE_CHECKING:
    from studies.ablation.config import AblationConfig as AblationConfig
    from studies.ablation.study import run as run

__getattr__, __dir__ = lazy_exports(
    __name__,
    {"run": "studies.ablation.study", "AblationConfig": "studies.ablation.config"},
)

__all__ = ["AblationConfig", "run"]
