"""What the adversarial study says about each image, for samples.jsonl."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from probe.core.report import Json
from studies.adversarial.outcome import MEASURES, Outcome
from studies.adversarial.workspace import Workspace


def samples(space: Workspace) -> Iterator[dict[str, Json]]:
    """Yield one record an image: what it was without attack, and what each attack and the worst of them did to it."""
    results, labelled = space.results, space.images.labelled
    clean, epsilons = results.clean, results.epsilons
    # What climbs from one epsilon to the next stops at the reported one; only the worst case goes on for the curve.
    limits = {one.text: results.asked if one.fixed else max(epsilons) for one in space.attacks}
    for place in range(results.n):
        label, target = int(clean.label[place]), int(clean.target[place])
        yield {
            "study": "adversarial",
            "index": int(clean.index[place]),
            "image": space.item_name(place),
            "label": label if labelled else None,
            "reference": label,
            "target": target if target >= 0 else None,
            "prediction": int(clean.prediction[place]),
            "confidence": float(clean.confidence[place]),
            "norm": space.norm.name,
            "epsilon": results.asked,
            "epsilons": list(epsilons),
            "smallest_epsilon": float(results.worst.smallest[place]),
            "worst": _outcome(results.worst, place, epsilons, max(epsilons)),
            "attacks": {
                name: _outcome(outcome, place, epsilons, limits[name])
                for name, outcome in results.attacks.items()
            },
        }


def _outcome(outcome: Outcome, place: int, epsilons: Sequence[float], limit: float) -> dict[str, Json]:
    """Return what one attack did to one image; ``limit`` is the largest epsilon at which it was tried."""
    won = [bool(outcome.success(epsilon)[place]) for epsilon in epsilons]
    prediction = int(outcome.prediction[place])
    return {
        "success": [
            hit if hit or epsilon <= limit else None for hit, epsilon in zip(won, epsilons, strict=True)
        ],
        "smallest_epsilon": float(outcome.smallest[place]),
        "prediction": prediction if prediction >= 0 else None,
        **{name: float(getattr(outcome, name)[place]) for name in MEASURES},
    }
