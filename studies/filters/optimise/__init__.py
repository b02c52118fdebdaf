"""Feature visualisation by optimisation (Olah, Mordvintsev & Schubert 2017): tensors in, tensors out."""

from __future__ import annotations

from studies.filters.optimise.basis import FourierBasis, Parametrisation, Transforms
from studies.filters.optimise.maco import Crops, FixedMagnitude, mean_magnitude, power_law
from studies.filters.optimise.objectives import Channel, Class, Objective, UnitObjective, VariantObjective
from studies.filters.optimise.rendering import PictureRecipe, PictureSubject, Rendering, render
from studies.filters.optimise.terms import Diversity, Nearness, gram_similarity

__all__ = [
    "Channel",
    "Class",
    "Crops",
    "Diversity",
    "FixedMagnitude",
    "FourierBasis",
    "Nearness",
    "Objective",
    "Parametrisation",
    "PictureRecipe",
    "PictureSubject",
    "Rendering",
    "Transforms",
    "UnitObjective",
    "VariantObjective",
    "gram_similarity",
    "mean_magnitude",
    "power_law",
    "render",
]
