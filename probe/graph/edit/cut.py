"""Removal of structures from a copy of a network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor, fx, nn

from probe.core.errors import NotApplicableError
from probe.graph.edit.edits import drop_unused
from probe.graph.edit.site import Site
from probe.graph.edit.structure import ModuleReplacement, Structure, get_structure
from probe.graph.trace.ablatable import ablatable, copied
from probe.graph.trace.trace import TraceError, no_side_effects, shared_copy, tensors


@dataclass(frozen=True)
class CutSubject:
    """A network prepared for the removal of structures.

    ``network`` is its graph, or, if there is none for the given ``reason``, a copy in which whole modules can be
    replaced. It shares the original's tensors; ``example`` is an input (N, C, H, W).
    """

    network: nn.Module
    example: Tensor
    reason: str = ""

    @property
    def graph(self) -> fx.GraphModule:
        """The graph; raises NotApplicableError with the reason if there is none."""
        if not isinstance(self.network, fx.GraphModule) or self.reason:
            raise NotApplicableError(self.reason or "The network cannot be traced.")
        return self.network

    @property
    def trains(self) -> str:
        """Empty if the network can be trained in this form, else the reason why not."""
        return "" if self.reason else str(self.graph.meta.get("trains", ""))

    @cached_property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of the outputs for the first image of the example."""
        with no_side_effects(self.network):
            return tuple(tuple(value.shape) for value in tensors(self.network(self.example[:1].clone())))


def prepare(module: nn.Module, example: Tensor) -> CutSubject:
    """Prepare a network for the removal of structures; the module is not changed."""
    try:
        return CutSubject(ablatable(module, example), example)
    except TraceError as error:
        return CutSubject(shared_copy(module), example, str(error))


def find_sites(subject: CutSubject, structure: Structure) -> tuple[Site, ...]:
    """Return the sites of a structure in execution order.

    Raises NotApplicableError if the network cannot be traced and the structure is not a separate module.
    """
    if not subject.reason:
        return structure.find(subject.graph)
    if not isinstance(structure, ModuleReplacement):
        raise NotApplicableError(f"{structure.name} cannot be found without a graph. {subject.reason}")
    calls = _calls(subject)
    sites = []
    for place, (name, module) in enumerate(subject.network.named_modules()):
        if name and structure.replacement(module) is not None:
            each = f", cut in each of its {calls[name]} calls" if calls[name] > 1 else ""
            sites.append(Site(structure.text, name, name, structure.form(module) + each, (), place))
    return tuple(sites)


def _calls(subject: CutSubject) -> Counter[str]:
    """Return how often each module is called, by its first name."""
    calls = Counter[str]()
    copy = shared_copy(subject.network)
    for name, module in copy.named_modules():
        module.register_forward_hook(lambda *_, name=name: calls.update([name]))
    with no_side_effects(copy):
        copy(subject.example[:1].clone())
    return calls


def _exchange(network: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put a module in the place of another under each of its names."""
    for name, module in list(network.named_modules(remove_duplicate=False)):
        if module is old and name:
            network.set_submodule(name, new)


def cut(subject: CutSubject, sites: Sequence[Site]) -> nn.Module:
    """Return a copy of the network without ``sites``; the subject and the original are not changed.

    The copy shares all tensors and is in eval mode. It is checked by running it: raises NotApplicableError if it
    no longer runs or its output has another shape.
    """
    if subject.reason:
        copy = shared_copy(subject.network)
        for site in sites:
            structure, old = get_structure(site.structure), copy.get_submodule(site.node)
            new = structure.replacement(old) if isinstance(structure, ModuleReplacement) else None
            if new is not None:
                _exchange(copy, old, new.eval())
    else:
        copy = graph = copied(subject.graph)
        for site in sorted(sites, key=lambda site: get_structure(site.structure).priority):
            get_structure(site.structure).cut(graph, site)
        drop_unused(graph)
        graph.delete_all_unused_submodules()
        graph.graph.lint()
        graph.recompile()
    _check_runs(subject, copy.eval(), sites)
    return copy


def _check_runs(subject: CutSubject, copy: nn.Module, sites: Sequence[Site]) -> None:
    names = ", ".join(site.name for site in sites[:3]) + (" …" if len(sites) > 3 else "")
    try:
        with no_side_effects(copy):
            output = copy(subject.example[:1].clone())
    except (RuntimeError, ValueError, TypeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise NotApplicableError(f"Without {names} the network no longer runs: {reason}") from error
    shapes = tuple(tuple(value.shape) for value in tensors(output))
    if shapes != subject.shapes:
        raise NotApplicableError(
            f"Without {names} the output of the network has the shape {shapes}, not {subject.shapes}."
        )
