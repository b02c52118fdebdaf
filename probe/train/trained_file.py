"""The result of a training, and its two files: the weights, and a readable recipe."""

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
    """A trained network's file, and how it was trained.

    ``history`` is for the images trained on, which are perturbed if there is an ``adversary``.
    ``overfitted`` is the epoch after which a fast adversarial training was found to have overfitted to its single step.
    ``images`` is their number, ``split`` describes how the held-out images were chosen.
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
    overfitted: int | None = None

    @property
    def headline(self) -> tuple[str, ...]:
        """The result of the training in sentences; each proportion with its n and 95% Wilson interval."""
        lines = [f"Held-out accuracy {_with_interval(self.record.score)}."]
        robust = self.record.robust
        if robust is not None:
            lines.append(
                f"Robust held-out accuracy at {robust.norm} {robust.epsilon:.4g}: {_with_interval(robust)} under "
                f"PGD with {ROBUST_STEPS} steps; use probe adversarial for a reliable value."
            )
        if self.overfitted is not None:
            lines.append(
                f"Catastrophic overfitting after epoch {self.overfitted} of {self.recipe.epochs}: the network resisted the single step "
                "of its training and less than half as often PGD; from then on it was trained with PGD."
            )
        if self.skipped:
            listed = "; ".join(f"{item.name}: {item.reason}" for item in self.skipped[:_NAMED])
            more = f"; and {len(self.skipped) - _NAMED} more" if len(self.skipped) > _NAMED else ""
            lines.append(f"{len(self.skipped)} of the images were skipped ({listed}{more}).")
        return tuple(lines)


def recipe_file(path: Path) -> Path:
    """Return the path of the readable recipe, next to the weights."""
    return path.with_name(f"{path.stem}.recipe.json")


def write_trained(trained: TrainedNetwork, network: nn.Module) -> None:
    """Write the weights, then the readable recipe; each is written completely or not at all.

    Raises CannotRunError if they cannot be written.
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
    """Return the facts that are not in the record."""
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
            "method": against.method,
            "steps": against.steps,
            **({"beta": against.beta} if against.method == "trades" else {}),
            **({} if trained.overfitted is None else {"overfitted after epoch": trained.overfitted}),
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
