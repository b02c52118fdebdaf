"""From the word typed for an attack, such as ``pgd?steps=100``, to the attack with its options."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from probe.attacks.attack import ATTACKS, Attack
from probe.attacks.norms import Norm
from probe.core.errors import UsageError
from probe.core.words import parse_options


@dataclass(frozen=True)
class Chosen:
    """An attack as it was asked for: the words typed, its name in the registry, the attack itself."""

    text: str
    name: str
    attack: Attack

    @property
    def fixed(self) -> bool:
        """True when the attack has to be run anew for every epsilon."""
        return not self.attack.traits.minimum_norm


def attack_named(text: str, **defaults: Any) -> Chosen:
    """Return the attack called ``NAME`` or ``NAME?option=value&…``; ``defaults`` are used where it has such options.

    Raises UsageError for unknown names and options and for values of the wrong kind.
    """
    name, mark, query = text.strip().partition("?")
    kind = ATTACKS.get(name)
    options = parse_options(query, text) if mark else {}
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for key, value in options.items():
        if key not in fields:
            known = f"It has {', '.join(fields)}." if fields else "It has none."
            raise UsageError(f"The attack {name} has no option '{key}'. {known}")
        _check_kind(name, key, value, fields[key].default)
    given = {key: value for key, value in defaults.items() if key in fields and value is not None}
    return Chosen(text.strip(), name, kind(**{**given, **options}))


def choose_attacks(
    names: tuple[str, ...], norm: Norm, *, targeted: bool, classes: int, **defaults: Any
) -> tuple[Chosen, ...]:
    """Return the attacks, each once; raises UsageError when one cannot do what is asked.

    ``targeted`` says that it has to aim at a class; ``classes`` is what the network has.
    """
    chosen = tuple(attack_named(name, **defaults) for name in dict.fromkeys(names))
    for one in chosen:
        traits = one.attack.traits
        if norm.name not in traits.norms:
            others = [name for name in ATTACKS if norm.name in ATTACKS.get(name).traits.norms]
            raise UsageError(
                f"The attack {one.name} knows the norm {' and '.join(traits.norms)}, not {norm.name}. For "
                f"{norm.name} there are {', '.join(others[:12])}{' …' if len(others) > 12 else ''}."
            )
        if targeted and not traits.targeted:
            raise UsageError(f"The attack {one.name} cannot aim at a class: leave --target out or use pgd.")
        if classes < traits.min_classes:
            raise UsageError(
                f"The attack {one.name} needs {traits.min_classes} classes and the network has {classes}."
            )
    return chosen


def _check_kind(name: str, key: str, value: Any, default: Any) -> None:
    """Compare a value's kind with the default's; whole numbers may stand for others."""
    if default is None or default is dataclasses.MISSING:
        return
    wanted = type(default)
    fits = isinstance(value, wanted) and (wanted is bool) == isinstance(value, bool)
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        fits = True
    if not fits:
        raise UsageError(
            f"The option {key} of the attack {name} is a {wanted.__name__} such as {default}, not {value!r}."
        )
    if wanted is int and value < 0:
        raise UsageError(f"The option {key} of the attack {name} cannot be negative.")
