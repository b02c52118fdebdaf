"""Feature visualisation by optimisation (Olah, Mordvintsev & Schubert 2017): tensors in, tensors out."""

from __future__ import annotations

from studies.filters.optimise.basis import FourierBasis, Parametrisation, Transforms
from studies.filters.optimise.objectives import Channel, Class, Objective, UnitObjective
from studies.filters.optimise.rendering import PictureRecipe, PictureSubject, Rendering, render

__all__ = [
    "Channel",
    "Class",
    "FourierBasis",
    "Objective",
    "Parametrisation",
    "PictureRecipe",
    "PictureSubject",
    "Rendering",
    "Transforms",
    "UnitObjective",
    "render",
]
