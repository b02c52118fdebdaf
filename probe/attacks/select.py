"""Selection of attacks by name and options, such as ``pgd?steps=100``."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from probe.attacks.base import ATTACKS, Attack, summary
from probe.attacks.norms import Norm
from probe.core.errors import UsageError
from probe.core.option_string import parse_options

T = TypeVar("T")


@dataclass(frozen=True)
class SelectedAttack:
    """An attack selected by the user: the text typed, its name in the registry, and the attack itself."""

    text: str
    name: str
    attack: Attack

    @property
    def fixed(self) -> bool:
        """Whether the attack has to be run again for every epsilon."""
        return not self.attack.traits.minimum_norm


def get_attack(text: str, **defaults: Any) -> SelectedAttack:
    """Return the attack called ``NAME`` or ``NAME?option=value&…``; ``defaults`` apply to attacks with such options.

    Raises UsageError for unknown names and options and for invalid values, whether typed or from ``defaults``.
    """
    name = text.strip().partition("?")[0]
    return SelectedAttack(text.strip(), name, with_options(ATTACKS.get(name), "attack", text, **defaults))


def with_options(kind: type[T], word: str, text: str, **defaults: Any) -> T:
    """Return an object of a dataclass with the options in ``NAME?option=value&…``; ``word`` is what it is called in errors.

    Raises UsageError for unknown options and for values of the wrong type, whether typed or from ``defaults``.
    """
    name, mark, query = text.strip().partition("?")
    options = parse_options(query, text) if mark else {}
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    hints = get_type_hints(kind)
    for key in options:
        if key not in fields:
            known = f"Available: {', '.join(fields)}." if fields else "It has no options."
            raise UsageError(f"The {word} {name} has no option '{key}'. {known}")
    applicable = {key: value for key, value in defaults.items() if key in fields and value is not None}
    for key, value in {**applicable, **options}.items():
        _check_value(f"The option {key} of the {word} {name}", value, hints[key], fields[key].default)
    return kind(**{**applicable, **options})


def choose_attacks(
    names: tuple[str, ...],
    norm: Norm,
    *,
    targeted: bool,
    size: tuple[int, ...] | None = None,
    **defaults: Any,
) -> tuple[SelectedAttack, ...]:
    """Return the attacks, each once; raises UsageError if one does not support the norm, targets or the images.

    ``targeted``: whether targeted attacks are required. ``size`` is that of the images (C, H, W), if it is known.
    """
    chosen = tuple(get_attack(name, **defaults) for name in dict.fromkeys(names))
    for selected in chosen:
        traits = selected.attack.traits
        if norm.name not in traits.norms:
            others = [name for name in ATTACKS if norm.name in ATTACKS.get(name).traits.norms]
            raise UsageError(
                f"The attack {selected.name} supports {' and '.join(traits.norms)}, not {norm.name}. For {norm.name}, use "
                f"{', '.join(others[:12])}{' …' if len(others) > 12 else ''}."
            )
        if targeted and not traits.targeted:
            raise UsageError(
                f"The attack {selected.name} does not support targeted attacks: remove --target or use pgd."
            )
        if size is not None:
            selected.attack.check_size(size, norm, targeted=targeted)
    return chosen


def _check_value(label: str, value: Any, hint: Any, default: Any) -> None:
    """Raise UsageError for a value of the wrong type, not among the choices, or out of range."""
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    if value is None and NoneType in kinds:
        return
    (kind,) = (member for member in kinds if member is not NoneType)
    words = get_args(kind) if get_origin(kind) is Literal else ()
    expected = type(words[0]) if words else kind
    article = "an" if expected is int else "a"
    fits = isinstance(value, expected) and (expected is bool) == isinstance(value, bool)
    if expected is float and isinstance(value, int) and not isinstance(value, bool):
        fits = True
    if words and not (fits and value in words):
        raise UsageError(
            f"{label} must be {article} {expected.__name__}, one of {', '.join(map(str, words))}; got {value!r}."
        )
    if not fits:
        example = "" if default in (None, dataclasses.MISSING) else f" such as {default}"
        raise UsageError(f"{label} must be {article} {expected.__name__}{example}, not {value!r}.")
    if expected is int and value < 0:
        raise UsageError(f"{label} cannot be negative.")
    # All integer options are counts; 0 is only valid if it is the default.
    if expected is int and value == 0 and default != 0:
        raise UsageError(f"{label} must be an integer of at least 1; got 0.")


def attack_rows(query: str = "") -> list[tuple[str, ...]]:
    """Return one row per attack: name, norms, access, kind, target, origin, options, summary, paper.

    ``query`` selects attacks whose name, access, kind or origin contains it, or which support the norm of that name.
    """
    rows = [_row(name, ATTACKS.get(name)) for name in ATTACKS]
    word = query.strip().lower()
    return [row for row in rows if not word or _fits(row, word)]


def _fits(row: tuple[str, ...], word: str) -> bool:
    name, norms, access, kind, _, origin, *_ = row
    return word in norms.lower().split() or any(word in part.lower() for part in (name, access, kind, origin))


def _row(name: str, kind: type[Attack]) -> tuple[str, ...]:
    traits = kind.traits
    options = " ".join(f"{field.name}={field.default}" for field in dataclasses.fields(kind))  # type: ignore[arg-type]
    way = "minimum-norm" if traits.minimum_norm else "within epsilon"
    return (
        name,
        " ".join(traits.norms),
        traits.access,
        f"{way}, transfer" if traits.transfer else way,
        "yes" if traits.targeted else "no",
        traits.origin,
        options or "–",
        summary(kind),
        traits.paper,
    )
