"""Numbers of the features view: each channel's optimised activation and the best one in natural images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from probe.core.blocks import Column, Table
from probe.core.document import Check, Result, finite


@dataclass(frozen=True)
class OptimisedValue:
    """One channel: its largest activation in the two optimised pictures and in any natural image."""

    layer: str
    channel: int
    channel_picture: float
    unit_picture: float
    natural: float

    @property
    def optimised(self) -> float:
        """The larger of the two optimised values."""
        return max(self.channel_picture, self.unit_picture)

    @property
    def ratio(self) -> float | None:
        """Optimised over natural; None where no image excites the channel."""
        return finite(self.optimised / self.natural) if self.natural > 0 else None

    @property
    def exceeds(self) -> bool:
        """Whether an optimised picture excites the channel at least as much as every image does."""
        return self.optimised >= self.natural


def table(reached: Sequence[OptimisedValue], images: int) -> Table:
    """Put the values side by side; ``images`` is the number of natural images."""
    columns = (
        Column("layer", help="The layer's name in the network."),
        Column("channel", help="The channel's number, from 0."),
        Column("channel picture", help="Largest activation in the picture for the channel's mean"),
        Column("unit picture", help="Largest activation in the picture for the middle unit"),
        Column("best image", help=f"Largest activation in any of the {images} images"),
        Column("ratio", help="Larger of the two optimised values over best image"),
    )
    rows = tuple(
        (r.layer, r.channel, finite(r.channel_picture), finite(r.unit_picture), finite(r.natural), r.ratio)
        for r in reached
    )
    reading = (
        "All are the largest single unit of the channel in the layer's own output. A picture for the mean "
        "spreads its effect over the map and may stay below an image; where the picture for a single unit does "
        "too, the optimisation may have been too short, or a stronger picture is hard to find by this "
        "method. An activation with an upper bound, such as ReLU6, limits all values."
    )
    return Table("Optimised activation against the best image", columns, rows, reading)


def results(reached: Sequence[OptimisedValue]) -> tuple[Result, ...]:
    """Return the median ratio and the share of channels above every image; nothing without channels."""
    ratios = [optimum.ratio for optimum in reached if optimum.ratio is not None]
    if not reached:
        return ()
    value = median(ratios) if ratios else None
    return (
        Result(
            "features.median_ratio_to_best_image", value, len(ratios), unit="ratio", higher_is_better=True
        ),
        Result.proportion(
            "features.reach_best_image",
            sum(optimum.exceeds for optimum in reached),
            len(reached),
            higher_is_better=True,
        ),
    )


def checks(reached: Sequence[OptimisedValue]) -> tuple[Check, ...]:
    """Warn when optimised pictures activate a channel less than the best image."""
    if not reached:
        return ()
    below = [f"{optimum.layer}/ch{optimum.channel}" for optimum in reached if not optimum.exceeds]
    if not below:
        detail = "Every channel is excited by an optimised picture at least as much as by any image."
        return (Check("features: optimised pictures reach what images reach", "pass", len(reached), detail),)
    names = ", ".join(below[:5]) + (" …" if len(below) > 5 else "")
    detail = f"{len(below)} of {len(reached)} stay below the best image ({names}): more --steps may help."
    return (
        Check(
            "features: optimised pictures reach what images reach", "warn", len(reached) - len(below), detail
        ),
    )


def findings(reached: Sequence[OptimisedValue]) -> tuple[str, ...]:
    """Return the sentence for the head of the report, where there is a ratio."""
    ratios = [optimum.ratio for optimum in reached if optimum.ratio is not None]
    if not ratios:
        return ()
    above = sum(optimum.exceeds for optimum in reached)
    return (
        f"Optimised pictures excite {above} of {len(reached)} channels at least as much as any image does "
        f"(median {median(ratios):.2g} times as much).",
    )
