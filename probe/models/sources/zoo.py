"""The networks included in probe: small, configurable, without published weights."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from functools import partial
from typing import Any

from torch import nn

from probe.models.source import SOURCES, ZOO, Access, Architecture, Build, ModelRow, buildable
from probe.models.usercode import FactoryCall
from probe.models.weights.cache import stored_names


@SOURCES.register("zoo")
class Zoo:
    """Small, configurable networks from the literature, trained locally on digits."""

    rank: int | None = 0

    def knows(self, target: str) -> bool:
        """Return whether the zoo has this network."""
        return target in ZOO

    def names(self) -> Collection[str]:
        """Return the zoo's networks."""
        return ZOO.names()

    def find(self, target: str, options: Mapping[str, Any], access: Access) -> Architecture:
        """Return the network; an unknown name or option raises UsageError."""
        call = FactoryCall(ZOO.get(target), f"zoo:{target}", options)
        call.check(Build())
        shown = "&".join(f"{key}={value}" for key, value in options.items())
        return Architecture(
            name=target,
            source=f"zoo:{target}" + (f"?{shown}" if shown else ""),
            build=partial(_build, call),
            licence="MIT",
        )

    def rows(self) -> Iterator[ModelRow]:
        """Yield one line per network."""
        here = stored_names()
        for name in ZOO:
            present = ("digits",) if name in here else ()
            yield ModelRow(name, "zoo", ("digits", "none"), "trained locally on digits, once", present)


def _build(call: FactoryCall, build: Build) -> nn.Module:
    with buildable(call.shown):
        return call(build)
