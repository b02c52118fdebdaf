"""The training record in the metadata of a weights file from ``probe train``, which is validated when read.

Files can come from anyone, so every value is bounded and checked. A file with an invalid record is loaded like any
other weights file, with a note.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, get_args

from probe.core.errors import UsageError
from probe.data.images import printable
from probe.data.spec import Aspect, InputSpec, Interpolation
from probe.models.source import Preprocessing

FORMAT = "probe weights"
"""The value of ``format`` in the metadata of files with a record."""

DOMAINS = ("digits", "fashion-mnist", "cifar10")
"""The tasks that a record can have; anything else is 'unknown'."""

_MAX_TEXT = 1 << 20
_MAX_NAME = 120
_MAX_CLASSES = 10_000
_MAX_SIDE = 1024
_MAX_COUNT = 10**9


@dataclass(frozen=True)
class Score:
    """How many of ``n`` held-out images were classified correctly."""

    correct: int
    n: int

    @property
    def percent(self) -> str:
        """The proportion as text."""
        return f"{100 * self.correct / self.n:.1f}%"


@dataclass(frozen=True)
class Robust(Score):
    """How many images remained correct under attack within ``epsilon`` in ``norm``."""

    norm: str
    epsilon: float


@dataclass(frozen=True)
class Record:
    """The network, its training data, its preprocessing and its score.

    ``built`` is the (H, W) that the network was built for, None for the network's default.
    ``robust`` is set for adversarially trained networks only.
    """

    model: str
    data: str
    domain: str
    framing: Preprocessing
    built: tuple[int, int] | None
    class_names: tuple[str, ...]
    score: Score
    robust: Robust | None = None

    @property
    def description(self) -> str:
        """The training in words, for reports."""
        how = "" if self.robust is None else f", adversarially ({self.robust.norm} {self.robust.epsilon:.4g})"
        return f"trained by probe on {self.data}{how}, {self.score.percent} accuracy on {self.score.n} held-out images"

    def metadata(self) -> dict[str, str]:
        """Return the record as safetensors metadata: strings, JSON for structured values."""
        facts: dict[str, Any] = {
            "input": {
                "size": self.framing.input.size,
                "crop": self.framing.input.crop,
                "interpolation": self.framing.input.interpolation,
                "aspect": self.framing.input.aspect,
                "as_is": self.framing.input.as_is,
            },
            "built_for": self.built,
            "mean": self.framing.mean,
            "std": self.framing.std,
            "classes": self.class_names,
            "held_out": {"correct": self.score.correct, "n": self.score.n},
        }
        if self.robust is not None:
            facts["robust"] = {
                "correct": self.robust.correct,
                "n": self.robust.n,
                "norm": self.robust.norm,
                "epsilon": self.robust.epsilon,
            }
        texts = {key: json.dumps(value, ensure_ascii=False) for key, value in facts.items()}
        return {"format": FORMAT, "model": self.model, "data": self.data, "domain": self.domain, **texts}


def read_record(metadata: Mapping[str, str]) -> tuple[Record | None, str]:
    """Return the record in a file's metadata, and the reason if there is a record that cannot be used.

    Never raises, whatever the metadata are.
    """
    if metadata.get("format") != FORMAT:
        return None, ""
    try:
        return _parse(metadata), ""
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError, UsageError) as error:
        why = f"no {error}" if isinstance(error, KeyError) else str(error)
        return None, printable(why)[:_MAX_NAME] or type(error).__name__


def _parse(metadata: Mapping[str, str]) -> Record:
    def value(key: str) -> Any:
        text = metadata[key]
        if len(text) > _MAX_TEXT:
            raise ValueError(f"{key} is {len(text):,} characters long")
        return json.loads(text, parse_constant=_no_constant)

    framing = _framing(value("input"), value("mean"), value("std"))
    held, robust, built = (
        value("held_out"),
        value("robust") if "robust" in metadata else None,
        value("built_for"),
    )
    domain = metadata["domain"]
    return Record(
        model=_name(metadata["model"]),
        data=_name(metadata["data"]),
        domain=domain if domain in DOMAINS else "unknown",
        framing=framing,
        built=None if built is None else _sides(built, 2),
        class_names=_classes(value("classes")),
        score=Score(*_counts(held)),
        robust=None if robust is None else _robust(robust),
    )


def _framing(fields: Any, mean: Any, std: Any) -> Preprocessing:
    channels, height, width = _sides(fields["size"], 3)
    if channels not in (1, 3):
        raise ValueError(f"{channels} channels")
    if fields["interpolation"] not in get_args(Interpolation):
        raise ValueError("an unknown interpolation")
    aspect, as_is = fields.get("aspect", "keep"), fields.get("as_is", False)
    if aspect not in get_args(Aspect) or not isinstance(as_is, bool):
        raise ValueError("an unknown way of resizing")
    spec = InputSpec(
        (channels, height, width),
        _number(fields["crop"], 0.05, 1),
        fields["interpolation"],
        aspect,
        as_is=as_is,
    )
    return Preprocessing(
        spec,
        tuple(_number(number, -20, 20) for number in _list(mean, channels)),
        tuple(_number(number, 1e-4, 20) for number in _list(std, channels)),
    )


def _robust(value: Any) -> Robust:
    norm = value["norm"]
    if norm not in ("Linf", "L2", "L1", "L0"):
        raise ValueError("an unknown norm")
    return Robust(*_counts(value), norm, _number(value["epsilon"], 0, _MAX_COUNT))


def _counts(value: Any) -> tuple[int, int]:
    correct, n = value["correct"], value["n"]
    if type(correct) is not int or type(n) is not int or not 0 <= correct <= n <= _MAX_COUNT or n < 1:
        raise ValueError("counts that make no sense")
    return correct, n


def _sides(value: Any, length: int) -> Any:
    sides = _list(value, length)
    if not all(type(side) is int and 1 <= side <= _MAX_SIDE for side in sides):
        raise ValueError(f"a size outside 1 to {_MAX_SIDE}")
    return tuple(sides)


def _list(value: Any, length: int) -> Sequence[Any]:
    if not isinstance(value, list) or len(value) != length:
        raise ValueError(f"not a list of {length}")
    return value


def _number(value: Any, low: float, high: float) -> float:
    if type(value) not in (int, float) or not math.isfinite(value) or not low <= value <= high:
        raise ValueError(f"a number outside {low:g} to {high:g}")
    return float(value)


def _classes(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not 2 <= len(value) <= _MAX_CLASSES:
        raise ValueError("no list of class names")
    return tuple(_name(name) for name in value)


def _name(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("the name is not text")
    return printable(value)[:_MAX_NAME]


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"the number {name}")
