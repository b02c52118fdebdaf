"""Shell completion: what may follow on the command line, without importing anything heavy."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import BashComplete, CompletionItem, add_completion_class, get_completion_class

from probe.cli.options import NameList
from probe.core.registry import Registry

if TYPE_CHECKING:
    _Words = click.ParamType[Any]
else:
    _Words = click.ParamType  # generic in newer releases only

VARIABLE = "_PROBE_COMPLETE"
"""The environment variable by which a shell asks."""

SHELLS = ("bash", "zsh", "fish")

Source = Callable[[click.Context], Iterable[str]]
"""Names the words that an option takes."""

_BREAK = ":"
"""Where bash breaks words, and names of ours have a prefix: ``zoo:resnet20``."""


def script(group: click.Command, shell: str) -> str:
    """Return the script that a shell reads to complete ``probe``."""
    kind = get_completion_class(shell)
    if kind is None:
        raise ValueError(f"no completion for {shell}")
    return kind(group, {}, "probe", VARIABLE).source().strip()


def with_words(command: click.Command) -> click.Command:
    """Let the options of a command, whose names are known here, complete their values."""
    for param in command.params:
        source = _SOURCES.get(param.name or "")
        if source is not None and not isinstance(param.type, _Completed):
            param.type = _Completed(param.type, source, param.name in _FILES)
    return command


class _Completed(_Words):
    """Another type, whose words are known; in a list with commas the last one is completed."""

    def __init__(self, inner: Any, source: Source, files: bool) -> None:
        self.inner, self.source, self.files = inner, source, files
        self.name = inner.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Leave the meaning to the other type."""
        return self.inner.convert(value, param, ctx)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return the words that begin so; files where these may be named and none does."""
        several = isinstance(self.inner, NameList) or getattr(self.inner, "name", "") == "auto|names"
        before, comma, last = incomplete.rpartition(",") if several else ("", "", incomplete)
        found = [word for word in dict.fromkeys(self.source(ctx)) if word.startswith(last)]
        if self.files and not comma and (not found or not incomplete):
            return [CompletionItem(incomplete, type="file"), *map(CompletionItem, found)]
        return [CompletionItem(f"{before}{comma}{word}") for word in found]


class _Bash(BashComplete):
    """Bash hands ``zoo:res`` over as three words and replaces the last of them."""

    _given = 0

    def get_completion_args(self) -> tuple[list[str], str]:
        """Put together what bash took apart, and remember what it keeps."""
        args, incomplete = super().get_completion_args()
        words = [*args, incomplete]
        while _BREAK in words[1:]:
            place = words.index(_BREAK, 1)
            words[place - 1 : place + 2] = ["".join(words[place - 1 : place + 2])]
        self._given = words[-1].rfind(_BREAK) + 1
        return words[:-1], words[-1]

    def format_completion(self, item: CompletionItem) -> str:
        """Write the part of a word that bash does not have yet."""
        if item.type == "plain":
            item = CompletionItem(item.value[self._given :], item.type, item.help)
        return super().format_completion(item)


add_completion_class(_Bash)


def _registered(kind: str, package: str, prefix: str = "") -> Iterator[str]:
    """Yield the names of a registry, read from its files: the registries of models and attacks lie beside torch."""
    return (prefix + name for name in Registry[Any](kind, package).names())


def _models(ctx: click.Context) -> Iterator[str]:
    yield "efficientnet_lite0"
    yield from _registered("model", "probe.models.zoo")
    yield from _torchvision()
    yield from _registered("model", "probe.models.zoo", "zoo:")
    yield from (f"torchvision:{name}" for name in _torchvision())


def _torchvision() -> Iterator[str]:
    """Yield the classifiers of torchvision, from the text of its files."""
    spec = find_spec("torchvision")
    for root in (spec.submodule_search_locations if spec else None) or ():
        for file in sorted((Path(root) / "models").glob("[!_]*.py")):
            text = file.read_text(encoding="utf-8", errors="replace")
            yield from re.findall(r"^@register_model\(\)\n(?:@.*\n)*def (\w+)", text, re.MULTILINE)


def _data(ctx: click.Context) -> tuple[str, ...]:
    from probe.data.source import data_names

    return data_names()


def _attacks(ctx: click.Context) -> Iterator[str]:
    return _registered("attack", "probe.attacks.families")


def _structures(ctx: click.Context) -> Iterator[str]:
    return _registered("structure", "probe.graph.structures")


def _swaps(ctx: click.Context) -> Iterator[str]:
    return _registered("swap", "probe.graph.swaps")


def _views(ctx: click.Context) -> Iterator[str]:
    study = "filters" if ctx.command.name == "filters" else "adversarial"
    return _registered("view", f"studies.{study}.views")


def _checks(ctx: click.Context) -> Iterator[str]:
    return _registered("check", "studies.adversarial.checks")


def _fixed(*words: str) -> Source:
    return lambda _ctx: words


_SOURCES: dict[str, Source] = {
    "model": _models,
    "against": _models,
    "transfer_to": _models,
    "compare": _models,
    "data": _data,
    "weights": _fixed("default", "none", "digits", "IMAGENET1K_V1", "IMAGENET1K_V2"),
    "against_weights": _fixed("default", "none", "digits", "IMAGENET1K_V1", "IMAGENET1K_V2"),
    "attack": _attacks,
    "remove": _structures,
    "kinds": _structures,
    "swap": _swaps,
    "views": _views,
    "checks": _checks,
    "norm": _fixed("Linf", "L2", "L1", "L0"),
    "target": _fixed("least-likely", "random"),
    "also": _fixed("robustness", "calibration"),
    "augment": _fixed("shift", "flip", "cutout", "none"),
    "device": _fixed("auto", "cpu", "cuda", "mps"),
    "gates": _fixed("robust_accuracy=", "clean_accuracy=", "accuracy=", "intact_accuracy="),
}
"""By the name of a parameter, in whichever command it is."""

_FILES = {"model", "against", "data", "weights", "against_weights"}
"""Those that can name a file, too."""
