"""The interface of model sources, the types that they return, and their registry."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from probe.core.errors import ProbeError, UsageError, did_you_mean
from probe.core.memory import is_out_of_memory
from probe.core.progress import SILENT, Progress
from probe.core.registry import Registry
from probe.data.images import InputSpec

State = Mapping[str, Tensor]
"""A state dict: key → tensor."""


@dataclass(frozen=True)
class Access:
    """How to get files: ``offline`` forbids downloads; ``progress`` shows them."""

    offline: bool = False
    progress: Progress = SILENT


@dataclass(frozen=True)
class Build:
    """The number of classes and the image size to build a network for; None is the architecture's default."""

    num_classes: int | None = None
    img_size: tuple[int, int] | None = None


SIZE, RESIZING, NORMALISATION = "input size", "resizing and crop", "normalisation"
"""The parts of a preprocessing that may be assumed."""


@dataclass(frozen=True)
class Preprocessing:
    """The input that a network expects: size, resizing, crop and normalisation.

    ``assumed`` are the parts of it that are not known to be those of the training: SIZE, RESIZING, NORMALISATION.
    """

    input: InputSpec
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    assumed: tuple[str, ...] = ()

    def resized(self, size: tuple[int, int] | None) -> Preprocessing:
        """Return the same preprocessing with another height and width; None changes nothing."""
        if size is None:
            return self
        return replace(self.without(SIZE), input=self.input.resized(size))

    def without(self, *known: str) -> Preprocessing:
        """Return the same preprocessing in which these parts are known."""
        return replace(self, assumed=tuple(part for part in self.assumed if part not in known))


@dataclass(frozen=True)
class UrlFile:
    """A weights file at a URL; ``name`` ends with the first digits of its sha256 if that is known.

    The file is stored in ``$TORCH_HOME/hub/checkpoints``.
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
    """A weights file in an installed Python package."""

    path: Path
    package: str
    sha256_prefix: str


Origin = UrlFile | HubFile | PackagedFile


@dataclass(frozen=True)
class Published:
    """Weights that were published for an architecture, with their preprocessing, classes and licence.

    ``origins`` are alternatives, tried in order. ``load`` builds the network and loads the state dict into it;
    it raises CheckpointError if the two do not fit. ``num_classes`` 0 means that there is no classifier.
    """

    name: str
    origins: tuple[Origin, ...]
    framing: Preprocessing
    num_classes: int
    load: Callable[[Build, State], nn.Module]
    class_names: tuple[str, ...] | None = None
    domain: str = "unknown"
    licence: str = ""
    description: str = ""


@dataclass(frozen=True)
class Architecture:
    """A network that can be built, and the weights that are published for it (the default first).

    ``build`` calls the factory. With ``user_code``, the network may come with trained weights, and
    ``framing`` is read from the network. ``identity`` distinguishes architectures with the same name (a digest of
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
        has = f"Available: {known}." if known else "No weights are published for it."
        raise UsageError(
            f"{self.source} has no weights '{name}', and there is no such file. {has} "
            "Other choices: default, none, digits, or the path of a file."
        )


@dataclass(frozen=True)
class ModelRow:
    """One line of the catalogue.

    ``weights`` are the names for ``--weights``, the default first; ``origin`` is where the default weights come from;
    ``present`` are those that are already on this machine.
    """

    name: str
    source: str
    weights: tuple[str, ...]
    origin: str
    present: tuple[str, ...]


class ModelSource(Protocol):
    """A source of networks. ``rank`` is its place in the look-up of bare names (None: not used for bare names)."""

    rank: int | None

    def knows(self, target: str) -> bool:
        """Return whether the source has a network of this name."""
        ...

    def find(self, target: str, options: Mapping[str, Any], access: Access) -> Architecture:
        """Return the architecture; an unknown name or invalid options raise UsageError."""
        ...

    def names(self) -> Collection[str]:
        """Return the names that can be listed."""
        ...

    def rows(self) -> Iterable[ModelRow]:
        """Yield the lines of the catalogue; fast, and nothing is downloaded."""
        ...


SOURCES: Registry[Callable[[], ModelSource]] = Registry("model source", "probe.models.sources")
ZOO: Registry[Callable[..., nn.Module]] = Registry("zoo network", "probe.models.zoo")
"""The papers' architectures, small and configurable: name → factory taking ``num_classes`` and keyword options."""


@contextmanager
def buildable(shown: str) -> Iterator[None]:
    """Turn whatever a library's network raises at its options inside the block into a UsageError, in one line."""
    try:
        yield
    except ProbeError:
        raise
    except Exception as error:
        lines = str(error).strip().splitlines() or [""]
        if is_out_of_memory(error):
            raise UsageError(
                f"{shown} needs more memory with these options than this machine has: choose smaller ones."
            ) from error
        detail = f": {lines[0].rstrip('.')}" if lines[0] else ""
        raise UsageError(
            f"{shown} cannot be built with these options: {type(error).__name__}{detail}."
        ) from error


_NEAREST = 4


def unknown_name(name: str, kind: str, known: Iterable[str]) -> UsageError:
    """Return the error for an unknown name of this kind, with similar names."""
    hint = did_you_mean(name, dict.fromkeys(known), _NEAREST)
    return UsageError(
        f"There is no {kind} '{name}'.{hint} `probe models QUERY` lists the available networks."
    )
