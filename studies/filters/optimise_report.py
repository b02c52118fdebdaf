"""What the features view says in numbers: each channel's optimised value beside the best natural one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from probe.core.report import Check, Column, Result, Table, finite


@dataclass(frozen=True)
class Reached:
    """One channel: the largest activation in its optimised picture and in any natural image."""

    layer: str
    channel: int
    optimised: float
    natural: float

    @property
    def ratio(self) -> float | None:
        """Optimised over natural; None where no image excites the channel."""
        return finite(self.optimised / self.natural) if self.natural > 0 else None

    @property
    def exceeds(self) -> bool:
        """Whether the optimised picture excites the channel more than every image does."""
        return self.optimised > self.natural


def table(reached: Sequence[Reached], images: int) -> Table:
    """Put the values side by side; ``images`` is the number of natural images."""
    columns = (
        Column("layer"),
        Column("channel"),
        Column("optimised", help="Largest activation in the optimised picture"),
        Column("best image", help=f"Largest activation in any of the {images} images"),
        Column("ratio", help="Optimised over best image"),
    )
    rows = tuple((r.layer, r.channel, finite(r.optimised), finite(r.natural), r.ratio) for r in reached)
    reading = (
        "Both are the largest single unit of the channel in the layer's own output. A picture that does not reach "
        "what images reach was optimised too briefly, or the channel answers to something that this method finds hard."
    )
    return Table("Value reached, beside the best image", columns, rows, reading)


def results(reached: Sequence[Reached]) -> tuple[Result, ...]:
    """Return the median ratio and the share of channels above every image; nothing without channels."""
    ratios = [one.ratio for one in reached if one.ratio is not None]
    if not reached:
        return ()
    value = median(ratios) if ratios else None
    return (
        Result("optimised over best image, median", value, len(ratios), unit="ratio", higher_is_better=True),
        Result.proportion(
            "optimised pictures above the best image",
            sum(one.exceeds for one in reached),
            len(reached),
            higher_is_better=True,
        ),
    )


def checks(reached: Sequence[Reached]) -> tuple[Check, ...]:
    """Warn when optimised pictures stay below what images reach."""
    if not reached:
        return ()
    below = [f"{one.layer}/ch{one.channel}" for one in reached if not one.exceeds]
    if not below:
        detail = "Every optimised picture excites its channel more than any image does."
        return (Check("optimisation reaches natural values", "pass", len(reached), detail),)
    named = ", ".join(below[:5]) + (" …" if len(below) > 5 else "")
    detail = f"{len(below)} of {len(reached)} stay below the best image ({named}): raise --steps."
    return (Check("optimisation reaches natural values", "warn", len(reached) - len(below), detail),)


def findings(reached: Sequence[Reached]) -> tuple[str, ...]:
    """Return the sentence for the head of the report, where there is a ratio."""
    ratios = [one.ratio for one in reached if one.ratio is not None]
    if not ratios:
        return ()
    above = sum(one.exceeds for one in reached)
    return (
        f"Pictures optimised for a channel excite {above} of {len(reached)} channels more than any image does "
        f"(median {median(ratios):.2g} times as much).",
    )
