"""What a source of models is, what it returns, and the registry that finds sources."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from probe.core.errors import UsageError, did_you_mean
from probe.core.progress import SILENT, Progress
from probe.core.registry import Registry
from probe.data.images import InputSpec

State = Mapping[str, Tensor]
"""A state dict: key → tensor."""


@dataclass(frozen=True)
class Access:
    """How files may be had: ``offline`` forbids the network; downloads are shown on ``progress``."""

    offline: bool = False
    progress: Progress = SILENT


@dataclass(frozen=True)
class Build:
    """What a network is built for; None leaves the architecture's own value."""

    num_classes: int | None = None
    img_size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Preprocessing:
    """What a network expects of its input: size and crop, and the normalisation."""

    input: InputSpec
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)

    def resized(self, size: tuple[int, int] | None) -> Preprocessing:
        """Return the same with another height and width; None changes nothing."""
        if size is None:
            return self
        return replace(self, input=replace(self.input, size=(self.input.size[0], *size)))


@dataclass(frozen=True)
class UrlFile:
    """A weights file behind an address; ``name`` ends in the first digits of its sha256 where it is known.

    It is kept, and looked for, in ``$TORCH_HOME/hub/checkpoints``.
    """

    url: str
    name: str


@dataclass(frozen=True)
class HubFile:
    """A weights file in a repository of the Hugging Face hub; the first of ``names`` that exists is used."""

    repo: str
    names: tuple[str, ...]
    revision: str | None = None


@dataclass(frozen=True)
class PackagedFile:
    """A weights file that an installed Python package carries."""

    path: Path
    package: str
    sha256_prefix: str


Origin = UrlFile | HubFile | PackagedFile


@dataclass(frozen=True)
class Published:
    """Weights that somebody published for an architecture, with what they mean.

    ``origins`` are alternatives, tried in order. ``load`` builds the network and puts the state dict into it;
    it raises CheckpointError when they do not fit. ``num_classes`` 0 means that there is no classifier.
    """

    name: str
    origins: tuple[Origin, ...]
    framing: Preprocessing
    num_classes: int
    load: Callable[[Build, State], nn.Module]
    class_names: tuple[str, ...] | None = None
    domain: str = "unknown"
    licence: str = ""
    described: str = ""


@dataclass(frozen=True)
class Architecture:
    """A network that can be built, and the weights that are published for it (the default first).

    ``build`` returns it as its factory does. For ``user_code`` these may be trained weights, and
    ``framing`` is read off the network. ``identity`` tells two architectures of one name apart (a digest of
    the user's file).
    """

    name: str
    source: str
    build: Callable[[Build], nn.Module]
    published: tuple[Published, ...] = ()
    framing: Preprocessing | None = None
    default_classes: int | None = None
    domain: str = "unknown"
    licence: str = ""
    identity: str = ""
    user_code: bool = False

    def find_published(self, name: str) -> Published:
        """Return the published weights called ``name``, in any case; raises UsageError otherwise."""
        for published in self.published:
            if published.name.lower() == name.lower():
                return published
        known = ", ".join(published.name for published in self.published)
        has = f"It has: {known}." if known else "None are published for it."
        raise UsageError(
            f"{self.source} has no weights '{name}', and there is no such file. {has} "
            "Other choices: default, none, digits, or a path to a file."
        )


@dataclass(frozen=True)
class ModelRow:
    """One line of the catalogue.

    ``weights`` are the names that ``--weights`` takes, the default first; ``origin`` is where the default
    ones come from; ``present`` are those that are on this machine now.
    """

    name: str
    source: str
    weights: tuple[str, ...]
    origin: str
    present: tuple[str, ...]


class ModelSource(Protocol):
    """Where networks come from. ``rank`` orders the sources that a bare name is looked up in (None: not)."""

    rank: int | None

    def knows(self, target: str) -> bool:
        """Return whether the source has a network of this name."""
        ...

    def find(self, target: str, options: Mapping[str, Any], access: Access) -> Architecture:
        """Return the architecture; an unknown name or unfit options raise UsageError."""
        ...

    def names(self) -> Collection[str]:
        """Return the names that can be listed."""
        ...

    def rows(self) -> Iterable[ModelRow]:
        """Yield the catalogue's lines; quick, and nothing is downloaded."""
        ...


SOURCES: Registry[Callable[[], ModelSource]] = Registry("model source", "probe.models.sources")
ZOO: Registry[Callable[..., nn.Module]] = Registry("zoo network", "probe.models.zoo")
"""The papers' architectures, small and configurable: name → factory taking ``num_classes`` and keyword options."""


_NEAREST = 4


def unknown_name(name: str, kind: str, known: Iterable[str]) -> UsageError:
    """Return the error that says there is no such ``kind``, and what is close to it."""
    hint = did_you_mean(name, dict.fromkeys(known), _NEAREST)
    return UsageError(f"There is no {kind} '{name}'.{hint} `probe models QUERY` lists what there is.")
