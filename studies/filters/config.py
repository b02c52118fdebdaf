"""The options of the filters study."""

from __future__ import annotations

from dataclasses import dataclass

WITHOUT_IMAGES = frozenset({"weights", "features"})
"""The views that show something where there are no images."""

STEPS = 128
"""Optimisation steps of a feature picture, on the command line, in Python and in the study."""


@dataclass(frozen=True)
class FiltersConfig:
    """The options of ``probe filters``; None means that the study chooses (``auto``).

    ``images`` is how many pictures are shown one by one, or their indices. ``steps`` is the number of optimisation
    steps of the feature visualisation. ``concepts`` is a folder with a subfolder of images for each concept, ``masks`` one with
    images and a mask for each concept. ``jobs`` processes (0: one a core), or a dask ``cluster``, do the work.
    """

    views: tuple[str, ...] | None = None
    layers: tuple[str, ...] | None = None
    channels: tuple[int, ...] | None = None
    images: int | tuple[int, ...] = 4
    steps: int = STEPS
    batch_size: int = 32
    seed: int = 0
    concepts: str | None = None
    masks: str | None = None
    jobs: int = 1
    cluster: str | None = None
