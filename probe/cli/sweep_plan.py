"""The plan of a sweep: a YAML file of studies, networks, data and options → one command line for each combination."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import yaml

from probe.core.errors import UsageError, did_you_mean
from probe.report.files import safe_name

STUDIES = ("filters", "adversarial", "ablate", "dossier", "anatomy", "doctor")
"""The commands that a sweep can run."""

_KEYS = ("studies", "models", "data", "options")
_OWN = ("out", "quiet", "debug", "form")
"""Options that the sweep sets itself."""

Options = dict[str, Any]


@dataclass(frozen=True)
class SweepRun:
    """One command line of a sweep, without its ``--out``; ``name`` is that of its folder."""

    name: str
    study: str
    words: tuple[str, ...]


def read_plan(path: Path, commands: Mapping[str, click.Command]) -> list[SweepRun]:
    """Return the runs of a plan, every combination once and in the plan's order.

    The file has ``studies`` (a name, a list of names, or names with their options), ``models`` and ``data`` (names, or
    mappings of options such as ``{model: my_net.py:net, weights: my.pth}``), and ``options`` for all studies. An option
    with a list of values is tried with each. ``commands`` are those of the program. Raises UsageError, with the place, for
    what it does not understand.
    """
    plan = _mapping(_parsed(path), path, "the file")
    unknown = [key for key in plan if key not in _KEYS]
    if unknown:
        raise UsageError(
            f"{path}: there is no '{unknown[0]}' in a sweep.{did_you_mean(str(unknown[0]), _KEYS)}"
        )
    runs: list[SweepRun] = []
    seen: set[tuple[str, ...]] = set()
    for study, own in _studies(plan.get("studies"), path).items():
        command = commands[study]
        for model in _choices(plan.get("models"), "model", path):
            for data in _choices(plan.get("data"), "data", path):
                shared = _mapping(plan.get("options") or {}, path, "options")
                for options, label in _combinations({**shared, **own, **model, **data}):
                    words = (study, *_words(options, command, path))
                    if words not in seen:
                        seen.add(words)
                        runs.append(
                            SweepRun(f"{len(runs) + 1:03}-{safe_name(f'{study}-{label}')}", study, words)
                        )
    return runs


def _parsed(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark is not None else ""
        raise UsageError(f"{path}{place}: not YAML: {getattr(error, 'problem', None) or error}.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.") from error


def _mapping(value: Any, path: Path, what: str) -> Options:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise UsageError(f"{path}: {what} must be 'name: value' lines; got {_shown(value)}.")
    return value


def _studies(value: Any, path: Path) -> dict[str, Options]:
    """Return each study's own options."""
    if isinstance(value, str):
        value = [value]
    if isinstance(value, list):
        value = {name if isinstance(name, str) else _shown(name): None for name in value}
    studies = _mapping(value or {}, path, "studies")
    if not studies:
        raise UsageError(f"{path}: studies is missing: name one or more of {', '.join(STUDIES)}.")
    for name in studies:
        if name not in STUDIES:
            raise UsageError(f"{path}: there is no study '{name}'.{did_you_mean(name, STUDIES)}")
    return {name: _mapping(own or {}, path, f"studies: {name}") for name, own in studies.items()}


def _choices(value: Any, option: str, path: Path) -> list[Options]:
    """Return the networks or the data sets, each as options; one without any where there are none."""
    if value is None:
        return [{}]
    choices = value if isinstance(value, list) else [value]
    return [
        dict(choice) if isinstance(choice, dict) else {option: _scalar(choice, option, path)}
        for choice in choices
    ]


def _combinations(options: Options) -> Iterator[tuple[Options, str]]:
    """Yield every combination of the values of options that have several, with a label that tells them apart."""
    axes = {name: value for name, value in options.items() if isinstance(value, list)}
    named = [
        str(options[name]) for name in ("model", "weights", "data") if name in options and name not in axes
    ]
    for values in itertools.product(*axes.values()):
        chosen = dict(zip(axes, values, strict=True))
        label = "-".join([*named, *(f"{name}-{value}" for name, value in chosen.items())])
        yield {**options, **chosen}, label or "default"


def _words(options: Options, command: click.Command, path: Path) -> Iterator[str]:
    known = {
        word: parameter
        for parameter in command.params
        for word in (*parameter.opts, *parameter.secondary_opts)
    }
    for name, value in options.items():
        word = f"--{name.replace('_', '-')}" if len(name) > 1 else f"-{name}"
        parameter = known.get(word)
        if parameter is None:
            names = [other.removeprefix("--") for other in known if other.startswith("--")]
            raise UsageError(
                f"{path}: probe {command.name} has no option '{name}'.{did_you_mean(name, names)}"
            )
        if parameter.name in _OWN:
            raise UsageError(f"{path}: the sweep sets '{name}' itself: leave it out.")
        if getattr(parameter, "is_flag", False):
            if not isinstance(value, bool):
                raise UsageError(f"{path}: '{name}' is true or false; got {_shown(value)}.")
            if value:
                yield word
        elif value is not None:
            yield from (word, _scalar(value, name, path))


def _scalar(value: Any, name: str, path: Path) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        hint = " (write it in quotes)" if isinstance(value, bool) else ""
        raise UsageError(f"{path}: '{name}' must be a word or a number; got {_shown(value)}{hint}.")
    return str(value)


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:40]}…"
