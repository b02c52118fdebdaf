"""What became of every image in a run, as far as its samples tell, for each result that is a part of the images."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping

from probe.core.document import Json, Result
from probe.tools.compare.runs import Run

Outcomes = dict[str, bool]
"""By the image's name: whether it counts for a result, such as right under attack."""

Reader = Callable[[Mapping[str, Json]], bool | None]
"""Reads one outcome from the leaves of an image's row; None where they do not have it."""

PLACE = " #"
"""Between a name that several images share and the image's place in the set."""
_PART = "part"
"""Tells the rows of the images that were looked at from those of held-out ones."""
_RIGHT = ("right", "intact.right")
_ANSWER = "prediction"
_TRUE = ("label", "reference")
"""What counts as right: the label, or where there is none the network's own answer."""
_SMALLEST = "smallest_epsilon"
_LESIONS = ("without.{}.right", "without.{}")
_ROBUST = re.compile(
    r"^(robust_accuracy|robust_agreement|resistance)(?::(?P<attack>.+)|@(?P<epsilon>[^@:]+))?$"
)
_CLEAN = re.compile(r"^(accuracy|agreement|(clean|intact)_(accuracy|agreement))$")
_LESION = re.compile(r"^lesion_(accuracy|agreement):(?P<what>.+)$")


def outcomes(run: Run, result: Result) -> Outcomes | None:
    """Return what each image contributed to a result, None where the samples do not say it.

    Whatever is read must count to the result's own value over its own n; else it is not believed.
    """
    if not isinstance(result.value, int | float) or not result.n:
        return None
    for found in _candidates(run, result.name):
        if len(found) == result.n and abs(sum(found.values()) - result.value * result.n) < 1e-6:
            return found
    return None


def labels(run: Run) -> dict[str, Json]:
    """Return the label of each image, where there are labels."""
    return {name: row.get("label") for rows in _groups(run) for name, row in rows.items()}


def _candidates(run: Run, name: str) -> Iterator[Outcomes]:
    """Yield what may be the outcomes behind a result, one for each part of the samples and way to say it."""
    for rows in _groups(run):
        table = {image: dict(_leaves(row)) for image, row in rows.items()}
        for read in _readers(run, name):
            found = {image: read(leaves) for image, leaves in table.items()}
            known = {image: value for image, value in found.items() if value is not None}
            if known:
                yield known


def _groups(run: Run) -> list[dict[str, Mapping[str, Json]]]:
    """Return the rows by image, those of each part of the run apart.

    Names that come again, such as those of a set of digits, are told apart by the image's place in the set.
    """
    groups: dict[str, list[tuple[str, Mapping[str, Json]]]] = defaultdict(list)
    for row in run.samples or ():
        if isinstance(name := row.get("image"), str):
            groups[str(row.get(_PART))].append((name, row))
    return [_by_image(rows) for rows in groups.values()]


def _by_image(rows: list[tuple[str, Mapping[str, Json]]]) -> dict[str, Mapping[str, Json]]:
    if len(dict(rows)) == len(rows):
        return dict(rows)
    placed = [(f"{name}{PLACE}{row.get('index')}", row) for name, row in rows]
    return dict(placed) if len(dict(placed)) == len(placed) else {}


def _leaves(value: Mapping[str, Json], prefix: str = "") -> Iterator[tuple[str, Json]]:
    for key, item in value.items():
        if isinstance(item, Mapping):
            yield from _leaves(item, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", item


def _flag(path: str) -> Reader:
    """Read a truth value."""

    def read(leaves: Mapping[str, Json]) -> bool | None:
        value = leaves.get(path)
        return value if isinstance(value, bool) else None

    return read


def _answer(leaves: Mapping[str, Json]) -> bool | None:
    """Compare the answer with what counts as right."""
    true = next((leaves[key] for key in _TRUE if leaves.get(key) is not None), None)
    if true is None or _ANSWER not in leaves:
        return None
    return bool(leaves[_ANSWER] == true)


def _beyond(path: str, epsilon: float) -> Reader:
    """Tell whether the smallest perturbation found is larger than epsilon; null means that none was found."""

    def read(leaves: Mapping[str, Json]) -> bool | None:
        if path not in leaves:
            return None
        smallest = leaves[path]
        if smallest is None:
            return True
        if isinstance(smallest, bool) or not isinstance(smallest, int | float):
            return None
        return bool(smallest > epsilon * (1 + 1e-6) + 1e-9)

    return read


def _readers(run: Run, name: str) -> list[Reader]:
    readers = [_flag(name)]
    if _CLEAN.match(name):
        readers += [*map(_flag, _RIGHT), _answer]
    if match := _LESION.match(name):
        whats = dict.fromkeys((match["what"], match["what"].removesuffix(":all")))
        readers += [_flag(form.format(what)) for what in whats for form in _LESIONS]
    if match := _ROBUST.match(name):
        epsilon = _exact(run, match["epsilon"]) if match["epsilon"] else asked(run)
        path = f"attacks.{match['attack']}.{_SMALLEST}" if match["attack"] else _SMALLEST
        readers += [] if epsilon is None else [_beyond(path, epsilon)]
    return readers


def asked(run: Run) -> float | None:
    """Return the epsilon that an adversarial run reports; None for other runs.

    The study spreads a single epsilon over a curve, so its list alone does not tell: it is the largest one at which
    the curve has the value of the headline.
    """
    stems = [name for name in run.results if (match := _ROBUST.match(name)) and not any(match.groups()[1:])]
    if not stems:
        return None
    own = run.results[stems[0]]
    found = [
        epsilon
        for name, result in run.results.items()
        if name.startswith(f"{own.name}@") and (result.value, result.ci) == (own.value, own.ci)
        if (epsilon := _exact(run, name.partition("@")[2])) is not None
    ]
    return max(found, default=None)


def _exact(run: Run, text: str) -> float | None:
    """Return the epsilon that a result's name gives in six digits as the run's config has it."""
    epsilon = number(text)
    listed = run.part("config").get("epsilons")
    if epsilon is None or not isinstance(listed, list):
        return epsilon
    near = [one for one in listed if isinstance(one, int | float) and abs(one - epsilon) <= 1e-5 * epsilon]
    return float(min(near, key=lambda one: abs(one - epsilon))) if near else epsilon


def number(text: str) -> float | None:
    """Return the finite number that a text is, else None."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
