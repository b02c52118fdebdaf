"""The same family of networks at other depths."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from torch import nn

from probe.core import seeds
from probe.core.errors import ProbeError, UsageError
from probe.models.load import find_architecture
from probe.models.loaded import LoadedModel
from probe.models.redraw import random_builder
from probe.models.source import Access, Build


def at_depths(model: LoadedModel, depths: Sequence[int]) -> Mapping[int | None, Callable[[], nn.Module]]:
    """Return factories of the model's family by depth; without depths that of the model itself, under None.

    The family is the model's factory with ``depth=N``, or the one whose name lacks the number at the end
    (``zoo:resnet20`` → ``zoo:resnet?depth=56``). Raises UsageError when neither takes a depth.
    """
    if not depths:
        return {None: model.factory}
    return {depth: _at(model, depth) for depth in dict.fromkeys(depths)}


def _at(model: LoadedModel, depth: int) -> Callable[[], nn.Module]:
    source = model.provenance.source
    plain, _, query = source.partition("?")
    others = "&".join(part for part in query.split("&") if part and not part.startswith("depth="))
    rest = f"&{others}" if others else ""
    failure: ProbeError | None = None
    for name in dict.fromkeys((plain, plain.rstrip("0123456789"))):
        try:
            architecture = find_architecture(f"{name}?depth={depth}{rest}", Access(offline=True))
            size = (model.input.size[1], model.input.size[2])
            factory = partial(random_builder(architecture), Build(model.num_classes, size))
            with seeds.scoped(0, "depth"):
                factory()
        except ProbeError as error:
            failure = failure or error
            continue
        return factory
    raise UsageError(
        f"--depths needs a network whose factory takes depth=N, such as zoo:resnet20: {source} does not take "
        f"depth={depth}. {failure}"
    )
