"""The base class of removable structures, and the registries of structures and swaps."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from probe.core.errors import UsageError
from probe.core.option_string import parse_options
from probe.core.registry import Registry
from probe.graph.edit.site import Site

if TYPE_CHECKING:
    from torch import fx, nn


class Structure(ABC):
    """A kind of structure. Its fields are its options.

    ``name`` is the name in the registry; ``no_effect_reason`` says why a cut changes nothing at test time, where that is so. Of
    several structures at one place those with a higher ``priority`` are cut later.
    """

    name: ClassVar[str] = ""
    no_effect_reason: ClassVar[str] = ""
    priority: ClassVar[int] = 0

    @property
    def default_model(self) -> str:
        """The default network of ``probe ablate`` for this structure."""
        return "zoo:resnet20"

    @property
    def arm(self) -> str:
        """Return the label of the edited network: ``without shortcut``."""
        return f"without {self.text}"

    @property
    def text(self) -> str:
        """The name with those options that differ from their defaults."""
        changed = [
            f"{field.name}={getattr(self, field.name)}"
            for field in dataclasses.fields(self)  # type: ignore[arg-type]
            if getattr(self, field.name) != field.default
        ]
        return self.name + (f"?{'&'.join(changed)}" if changed else "")

    @abstractmethod
    def find(self, graph: fx.GraphModule) -> tuple[Site, ...]:
        """Return the sites in a graph made by ``ablatable``, in execution order."""

    @abstractmethod
    def cut(self, graph: fx.GraphModule, site: Site) -> None:
        """Remove one site by editing ``graph``; the caller removes nodes that become unused."""


class ModuleReplacement(Structure):
    """A structure that is a separate module, so that it can be removed even if the network cannot be traced."""

    @abstractmethod
    def replacement(self, module: nn.Module) -> nn.Module | None:
        """Return the replacement of ``module`` (an Identity removes it), None if it is not this structure."""

    def form(self, module: nn.Module) -> str:
        """Describe what is replaced."""
        return type(module).__name__

    def excluded(self, graph: fx.GraphModule) -> frozenset[fx.Node]:
        """Return the calls of replaceable modules that have another role, such as gates."""
        return frozenset()

    def find(self, graph: fx.GraphModule) -> tuple[Site, ...]:
        """Return every call of a module that has a replacement."""
        from probe.graph.edit.edits import site_at, value_of

        sites, excluded = [], self.excluded(graph)
        for node in graph.graph.nodes:
            if node.op != "call_module" or value_of(node) is None or node in excluded:
                continue
            module = graph.get_submodule(str(node.target))
            if self.replacement(module) is not None:
                sites.append(site_at(graph, node, self.text, str(node.target), self.form(module)))
        return tuple(sites)

    def cut(self, graph: fx.GraphModule, site: Site) -> None:
        """Replace the module."""
        from probe.graph.edit.edits import get_node, put_module, value_of

        node = get_node(graph, site)
        new = self.replacement(graph.get_submodule(str(node.target)))
        value = value_of(node)
        if new is None or value is None:
            return
        if type(new).__name__ == "Identity":
            node.replace_all_uses_with(value)
        else:
            put_module(graph, node, new, self.name)


STRUCTURES: Registry[type[Structure]] = Registry("structure", "probe.graph.structures")

SWAPS: Registry[type[Structure]] = Registry("swap", "probe.graph.swaps")

SWAP = "swap:"
"""The prefix of swaps, where structures to remove and swaps are listed together."""


def get_structure(text: str) -> Structure:
    """Return the structure that ``text`` names, such as ``shortcut``, ``pool?to=max`` or ``swap:activation?to=gelu``.

    Raises UsageError for unknown names, options and values.
    """
    name, mark, query = text.partition("?")
    kind = _get_kind(name)
    known = {field.name: field.type for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    # A layer may be called 0 or 1.10.
    plain = [name for name, annotation in known.items() if annotation == "str"]
    options: dict[str, Any] = parse_options(query, text, plain) if mark else {}
    for key in options:
        if key not in known:
            what = "swap" if name.startswith(SWAP) else "structure"
            raise UsageError(
                f"The {what} '{name.removeprefix(SWAP)}' has no option '{key}'. "
                + (f"Available: {', '.join(sorted(known))}." if known else "It has no options.")
            )
    try:
        return kind(**options)
    except (TypeError, ValueError) as error:
        raise UsageError(f"'{text.removeprefix(SWAP)}' is invalid: {error}.") from error


def _get_kind(name: str) -> type[Structure]:
    if not name.startswith(SWAP):
        return STRUCTURES.get(name)
    return SWAPS.get(name.removeprefix(SWAP))
