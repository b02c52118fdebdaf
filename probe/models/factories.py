"""Calling a factory of networks: which arguments it takes, and what may go wrong in words."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from probe.core.errors import UsageError
from probe.models.source import Build

_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


@dataclass(frozen=True)
class FactoryCall:
    """A factory and the options that the user typed for it; ``shown`` is how the user writes it."""

    factory: Callable[..., nn.Module]
    shown: str
    options: Mapping[str, Any]

    def arguments(self, build: Build) -> dict[str, Any]:
        """Return the keyword arguments for a build: the user's options, then what the build adds.

        ``num_classes`` and ``img_size`` are passed when the factory names such a parameter and the
        user did not give it.
        """
        named = self._named()
        added = {"num_classes": build.num_classes, "img_size": build.img_size}
        extra = {
            key: value
            for key, value in added.items()
            if key in named and key not in self.options and value is not None
        }
        return {**self.options, **extra}

    def check(self, build: Build) -> None:
        """Raise UsageError when the factory does not take these arguments, or needs more."""
        try:
            signature = inspect.signature(self.factory)
        except (TypeError, ValueError):
            return
        arguments = self.arguments(build)
        named = self._named()
        loose = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in signature.parameters.values())
        unknown = [key for key in arguments if key not in named]
        if unknown and not loose:
            takes = f"It takes {', '.join(named)}." if named else "It takes none."
            raise UsageError(f"{self.shown} takes no argument '{unknown[0]}'. {takes}")
        missing = [
            parameter.name
            for parameter in signature.parameters.values()
            if parameter.default is inspect.Parameter.empty
            and parameter.kind not in (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
            and parameter.name not in arguments
        ]
        if missing:
            typed = "&".join(f"{name}=…" for name in missing)
            raise UsageError(
                f"{self.shown} needs {'an argument' if len(missing) == 1 else 'arguments'} "
                f"({', '.join(missing)}): write {self.shown}?{typed}."
            )

    def accepts(self, parameter: str) -> bool:
        """Return whether the factory names this parameter and the user left it open."""
        return parameter in self._named() and parameter not in self.options

    def __call__(self, build: Build) -> nn.Module:
        """Check the arguments and call the factory."""
        self.check(build)
        return self.factory(**self.arguments(build))

    def _named(self) -> tuple[str, ...]:
        try:
            parameters = inspect.signature(self.factory).parameters.values()
        except (TypeError, ValueError):
            return ()
        return tuple(parameter.name for parameter in parameters if parameter.kind in _BY_NAME)
