"""The options of the ablation study."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from probe.core.errors import UsageError
from probe.graph.edit.structure import SWAP
from probe.train.setup import RecipeOptions

Mode = Literal["auto", "lesion", "retrain", "both"]
MODES: tuple[Mode, ...] = ("auto", "lesion", "retrain", "both")
ALSO = ("robustness", "calibration", "landscape")


@dataclass(frozen=True)
class AblationConfig:
    """The options of ``probe ablate``.

    ``remove``: structures, with options (``pool?to=max``); ``swap``: exchanges (``activation?to=gelu``), which are
    only retrained. ``mode``: ``lesion`` ablates without retraining, ``retrain`` trains the network with and without,
    ``both`` does both; ``auto`` is both where there are training images and it is cheap enough. ``sites``: names to
    keep to, None for all, of which at most ``max_sites`` are cut alone. ``draws`` random choices for each number of
    cut sites. ``calibration_samples`` images re-estimate the statistics of batch normalisation. ``seeds`` trainings
    for each arm; ``depths`` sweeps the network's ``depth`` argument. ``match_parameters`` widens the cut arm to the
    intact one's number of parameters. ``also``: robustness (PGD within ``epsilon`` in ``norm``), calibration,
    landscape (the loss around the weights).
    ``jobs`` processes, or a dask ``cluster`` such as ``tcp://host:8786``.
    """

    remove: tuple[str, ...] = ("shortcut",)
    swap: tuple[str, ...] = ()
    mode: Mode = "auto"
    sites: tuple[str, ...] | None = None
    max_sites: int = 64
    draws: int = 5
    calibration_samples: int = 256
    seeds: int = 3
    recipe: RecipeOptions = field(default_factory=RecipeOptions)
    depths: tuple[int, ...] = ()
    match_parameters: bool = False
    also: tuple[str, ...] = ()
    norm: str = "Linf"
    epsilon: float = 0.03
    jobs: int = 0
    cluster: str | None = None
    batch_size: int = 128
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse unknown values and numbers that are too small."""
        if self.mode not in MODES:
            raise UsageError(f"There is no mode '{self.mode}'. Known: {', '.join(MODES)}.")
        for word in self.also:
            if word not in ALSO:
                raise UsageError(f"--also supports {', '.join(ALSO[:-1])} and {ALSO[-1]}, not '{word}'.")
        if not self.remove and not self.swap:
            raise UsageError("--remove needs at least one structure: see probe structures.")
        if self.swap and self.mode == "lesion":
            raise UsageError("A swap has to be trained: use --mode retrain, or leave --mode out.")
        for name, least in (
            ("max_sites", 1),
            ("draws", 1),
            ("calibration_samples", 2),
            ("seeds", 1),
            ("jobs", 0),
        ):
            if getattr(self, name) < least:
                raise UsageError(
                    f"--{name.replace('_', '-')} must be at least {least}; got {getattr(self, name)}."
                )

    @property
    def texts(self) -> tuple[str, ...]:
        """The texts of removals and swaps for ``get_structure``, each once."""
        return tuple(dict.fromkeys((*self.remove, *(SWAP + text for text in self.swap))))
