"""Feature visualisation by optimisation (Olah, Mordvintsev & Schubert 2017): tensors in, tensors out."""

from __future__ import annotations

from studies.filters.optimise.basis import FourierBasis, Parametrisation
from studies.filters.optimise.objectives import Channel, Class, Objective, Unit
from studies.filters.optimise.rendering import Recipe, Rendering, Subject, render
from studies.filters.optimise.transforms import Transforms

__all__ = [
    "Channel",
    "Class",
    "FourierBasis",
    "Objective",
    "Parametrisation",
    "Recipe",
    "Rendering",
    "Subject",
    "Transforms",
    "Unit",
    "render",
]
