"""Shell completion, without importing anything heavy."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import BashComplete, CompletionItem, add_completion_class, get_completion_class

from probe.cli.values import NameList
from probe.core.registry import Registry

if TYPE_CHECKING:
    _ParamType = click.ParamType[Any]
else:
    _ParamType = click.ParamType  # generic in newer releases only

VARIABLE = "_PROBE_COMPLETE"
"""The environment variable that a shell sets to request completions."""

SHELLS = ("bash", "zsh", "fish")

Source = Callable[[click.Context], Iterable[str]]
"""Gives the values that an option accepts."""

_BREAK = ":"
"""Where bash splits words, although our names contain it: ``zoo:resnet20``."""


def script(group: click.Command, shell: str) -> str:
    """Return the script that a shell reads to complete ``probe``."""
    kind = get_completion_class(shell)
    if kind is None:
        raise ValueError(f"no completion for {shell}")
    return kind(group, {}, "probe", VARIABLE).source().strip()


def with_completion(command: click.Command) -> click.Command:
    """Add completion of values to those options of a command that have known values."""
    for param in command.params:
        source = _SOURCES.get(param.name or "")
        if source is not None and not isinstance(param.type, _CompletingType):
            param.type = _CompletingType(param.type, source, param.name in _FILES)
    return command


class _CompletingType(_ParamType):
    """A parameter type with completion of its values; in a comma-separated list, the last value is completed."""

    def __init__(self, inner: Any, source: Source, files: bool) -> None:
        self.inner, self.source, self.files = inner, source, files
        self.name = inner.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Convert with the inner type."""
        return self.inner.convert(value, param, ctx)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return the values that start with the text so far; file names where allowed and no value matches."""
        several = isinstance(self.inner, NameList) or getattr(self.inner, "name", "") == "auto|names"
        before, comma, last = incomplete.rpartition(",") if several else ("", "", incomplete)
        matching = [value for value in dict.fromkeys(self.source(ctx)) if value.startswith(last)]
        if self.files and not comma and (not matching or not incomplete):
            return [CompletionItem(incomplete, type="file"), *map(CompletionItem, matching)]
        return [CompletionItem(f"{before}{comma}{value}") for value in matching]


class _Bash(BashComplete):
    """Completion for bash, which splits ``zoo:res`` into three words and replaces the last of them."""

    _given = 0

    def get_completion_args(self) -> tuple[list[str], str]:
        """Join the words that bash split, and remember how much of the last one bash keeps."""
        args, incomplete = super().get_completion_args()
        words = [*args, incomplete]
        while _BREAK in words[1:]:
            place = words.index(_BREAK, 1)
            words[place - 1 : place + 2] = ["".join(words[place - 1 : place + 2])]
        self._given = words[-1].rfind(_BREAK) + 1
        return words[:-1], words[-1]

    def format_completion(self, item: CompletionItem) -> str:
        """Format the part of a word that bash does not have yet."""
        if item.type == "plain":
            item = CompletionItem(item.value[self._given :], item.type, item.help)
        return super().format_completion(item)


add_completion_class(_Bash)


def _registry_names(kind: str, package: str, prefix: str = "") -> Iterator[str]:
    """Yield the names of a registry, read from its files: importing models or attacks would import torch."""
    return (prefix + name for name in Registry[Any](kind, package).names())


def _models(ctx: click.Context) -> Iterator[str]:
    yield "efficientnet_lite0"
    yield from _registry_names("model", "probe.models.zoo")
    yield from _torchvision()
    yield from _registry_names("model", "probe.models.zoo", "zoo:")
    yield from (f"torchvision:{name}" for name in _torchvision())


def _torchvision() -> Iterator[str]:
    """Yield the names of torchvision's classifiers, read from the text of its files."""
    spec = find_spec("torchvision")
    for root in (spec.submodule_search_locations if spec else None) or ():
        for file in sorted((Path(root) / "models").glob("[!_]*.py")):
            text = file.read_text(encoding="utf-8", errors="replace")
            yield from re.findall(r"^@register_model\(\)\n(?:@.*\n)*def (\w+)", text, re.MULTILINE)


def _data(ctx: click.Context) -> tuple[str, ...]:
    from probe.data.source import data_names

    return data_names()


def _attacks(ctx: click.Context) -> Iterator[str]:
    return _registry_names("attack", "probe.attacks.families")


def _structures(ctx: click.Context) -> Iterator[str]:
    return _registry_names("structure", "probe.graph.structures")


def _swaps(ctx: click.Context) -> Iterator[str]:
    return _registry_names("swap", "probe.graph.swaps")


def _views(ctx: click.Context) -> Iterator[str]:
    study = "filters" if ctx.command.name == "filters" else "adversarial"
    return _registry_names("view", f"studies.{study}.views")


def _checks(ctx: click.Context) -> Iterator[str]:
    return _registry_names("check", "studies.adversarial.checks")


def _constant(*values: str) -> Source:
    return lambda _ctx: values


_SOURCES: dict[str, Source] = {
    "model": _models,
    "against": _models,
    "transfer_to": _models,
    "compare": _models,
    "data": _data,
    "weights": _constant("default", "none", "digits", "IMAGENET1K_V1", "IMAGENET1K_V2"),
    "against_weights": _constant("default", "none", "digits", "IMAGENET1K_V1", "IMAGENET1K_V2"),
    "attack": _attacks,
    "remove": _structures,
    "kinds": _structures,
    "swap": _swaps,
    "views": _views,
    "checks": _checks,
    "norm": _constant("Linf", "L2", "L1", "L0"),
    "target": _constant("least-likely", "random"),
    "also": _constant("robustness", "calibration", "landscape"),
    "augment": _constant("shift", "flip", "cutout", "none"),
    "device": _constant("auto", "cpu", "cuda", "mps"),
    "gates": _constant("robust_accuracy=", "clean_accuracy=", "accuracy=", "intact_accuracy="),
}
"""The values to complete, by the name of the parameter, in any command."""

_FILES = {"model", "against", "data", "weights", "against_weights"}
"""Parameters that also accept a file."""
