"""What comes of a training, and the two files that keep it: the weights, and a recipe that people can read."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from probe.core.errors import CannotRunError
from probe.core.stats import wilson
from probe.core.subject import Skipped
from probe.models.weights.cache import write_state
from probe.models.weights.record import Record, Score
from probe.report.assemble import environment
from probe.report.files import write_together
from probe.train.adversarial import ROBUST_STEPS, Adversary
from probe.train.loop.fit import Recipe
from probe.train.loop.watch import Epoch

_NAMED = 5
_PLAIN = ("format", "model", "data", "domain")


@dataclass(frozen=True)
class TrainedNetwork:
    """A trained network's file and what is known of it.

    ``history`` is of the images trained on, as they were trained on: perturbed, if there is an ``adversary``.
    ``images`` is their number, ``split`` how the held-out ones were parted from them.
    """

    path: Path
    record: Record
    recipe: Recipe
    adversary: Adversary | None
    history: tuple[Epoch, ...]
    images: int
    split: str
    licence: str
    seed: int
    device: str
    seconds: float
    skipped: tuple[Skipped, ...] = ()

    @property
    def headline(self) -> tuple[str, ...]:
        """What came of the training, in sentences; each proportion with its n and 95% Wilson interval."""
        lines = [f"Held-out accuracy {_with_interval(self.record.score)}."]
        robust = self.record.robust
        if robust is not None:
            lines.append(
                f"Robust held-out accuracy at {robust.norm} {robust.epsilon:.4g}: {_with_interval(robust)} under "
                f"PGD with {ROBUST_STEPS} steps; probe adversarial measures it properly."
            )
        if self.skipped:
            named = "; ".join(f"{one.name}: {one.reason}" for one in self.skipped[:_NAMED])
            more = f"; and {len(self.skipped) - _NAMED} more" if len(self.skipped) > _NAMED else ""
            lines.append(f"{len(self.skipped)} of the images were skipped ({named}{more}).")
        return tuple(lines)


def recipe_file(path: Path) -> Path:
    """Return the file beside the weights that tells people how they were trained."""
    return path.with_name(f"{path.stem}.recipe.json")


def write_trained(trained: TrainedNetwork, network: nn.Module) -> None:
    """Write the weights, then the readable recipe; each is there whole or not at all.

    Raises CannotRunError when the disk does not let them be written.
    """
    path, facts = trained.path, _facts(trained)
    texts = {key: json.dumps(value) for key, value in facts.items()}
    readable = {
        **{key: _value(key, text) for key, text in trained.record.metadata().items()},
        **facts,
        "history of the images trained on": [asdict(epoch) for epoch in trained.history],
    }
    try:
        write_state(path, network.state_dict(), {**texts, **trained.record.metadata()})
        text = json.dumps(readable, indent=2, ensure_ascii=False)
        write_together(path.parent, {recipe_file(path).name: text + "\n"})
    except OSError as error:
        raise CannotRunError(f"{path} cannot be written: {error.strerror or error}.") from error


def _facts(trained: TrainedNetwork) -> dict[str, Any]:
    """Return what is known besides the record."""
    against = trained.adversary
    facts: dict[str, Any] = {
        "recipe": asdict(trained.recipe),
        "images": trained.images,
        "split": trained.split,
        "licence": trained.licence,
        "seed": trained.seed,
        "seconds": round(trained.seconds, 1),
        "environment": environment(trained.device),
    }
    if against is not None:
        facts["adversary"] = {
            "norm": against.norm.name,
            "epsilon": against.epsilon,
            "steps": against.steps,
            "warm_up": against.warm_up,
            "steps of the robust accuracy": ROBUST_STEPS,
        }
    return facts


def _value(key: str, text: str) -> Any:
    return text if key in _PLAIN else json.loads(text)


def _with_interval(score: Score) -> str:
    low, high = wilson(score.correct, score.n)
    return (
        f"{score.percent} ({score.correct} of {score.n}, 95% interval {100 * low:.1f} to {100 * high:.1f}%)"
    )
