"""The checks of the retrained arms."""

from __future__ import annotations

from probe.core.document import Check
from studies.ablation.retrain import RetrainResult, label_of

_SAME_SIZE = 0.01


def retrain_checks(retrained: RetrainResult) -> tuple[Check, ...]:
    """Return the checks of all trainings: finite, alive, enough seeds, and of equal capacity."""
    everything = [trained for arms in retrained.arms.values() for trained in arms]
    faults = [trained for trained in everything if trained.fault is not None]
    dead = [trained for trained in everything if retrained.dead(trained)]
    seeds = len(retrained.of((), retrained.depths[0]))
    return (
        Check(
            "Finite training",
            "fail" if faults else "pass",
            len(faults),
            f"{len(faults)} of {len(everything)} trainings reached a loss or gradient that is not finite.",
        ),
        Check(
            "Dead networks",
            "warn" if dead else "pass",
            len(dead),
            f"{len(dead)} of {len(everything)} trainings never left the loss of guessing: "
            + (
                "their accuracy shows that this recipe does not train them, not how good they could be."
                if dead
                else "none."
            ),
        ),
        Check(
            "Enough seeds",
            "pass" if seeds >= 3 else "warn",
            seeds,
            _seeds_text(seeds),
        ),
        *_capacity_checks(retrained),
    )


def _seeds_text(seeds: int) -> str:
    if seeds == 1:
        return "1 seed for each arm: no difference between arms can be tested, because seeds differ too."
    few = ": the t-test then has a single degree of freedom and finds only differences far above their spread"
    return f"{seeds} seeds for each arm{few if seeds == 2 else ''}."


def _capacity_checks(retrained: RetrainResult) -> list[Check]:
    depth, checks = retrained.depths[-1], []
    intact = retrained.anatomy((), depth).parameters
    for variant in retrained.variants[1:]:
        own = retrained.anatomy(variant, depth).parameters
        change = (own - intact) / intact
        matched = any(trained.arm.match for trained in retrained.of(variant, depth))
        name = label_of(variant).capitalize()
        detail = f"{name} the network has {own:,} parameters, intact {intact:,} ({change:+.1%})."
        if abs(change) > _SAME_SIZE and not matched:
            detail += (
                " The arms differ in capacity too, so a difference between them cannot be put down to the structure "
                "alone: --match-parameters separates the two."
            )
        status = "warn" if abs(change) > _SAME_SIZE else "pass"
        checks.append(Check(f"Equal capacity: {label_of(variant)}", status, own - intact, detail))  # type: ignore[arg-type]
    return checks
