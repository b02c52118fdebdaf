"""The options of the dossier."""

from __future__ import annotations

from dataclasses import dataclass

IMAGES = 40
"""Images that are studied when no number is given: enough for intervals, few enough for minutes."""


@dataclass(frozen=True)
class DossierConfig:
    """The options of ``probe dossier``.

    ``epsilon`` in ``norm`` is what the attack is reported at. ``layers`` are the convolutions, or layers that hold one,
    whose channels are measured; None lets the dossier choose one. At most ``channels`` of a layer are measured,
    ``pictured`` of them shown. ``quick`` attacks and makes pictures with fewer steps, and leaves the checks out.
    """

    epsilon: float = 0.03
    norm: str = "Linf"
    layers: tuple[str, ...] | None = None
    channels: int = 32
    pictured: int = 6
    quick: bool = False
    batch_size: int = 32
    seed: int = 0

    @property
    def steps(self) -> int:
        """Steps of optimisation for each feature picture."""
        return 32 if self.quick else 96
