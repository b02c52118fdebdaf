"""Calling a user's factory with the options that the user typed."""

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
    """A factory and the options that the user typed for it; ``shown`` is the factory as the user typed it."""

    factory: Callable[..., nn.Module]
    shown: str
    options: Mapping[str, Any]

    def arguments(self, build: Build) -> dict[str, Any]:
        """Return the keyword arguments for a build: the user's options, then those that the build adds.

        ``num_classes`` and ``img_size`` are passed if the factory has such a parameter and the user did not set it.
        """
        parameters = self._parameter_names()
        added = {"num_classes": build.num_classes, "img_size": build.img_size}
        extra = {
            key: value
            for key, value in added.items()
            if key in parameters and key not in self.options and value is not None
        }
        return {**self.options, **extra}

    def check(self, build: Build) -> None:
        """Raise UsageError if the factory does not accept these arguments, or needs more."""
        try:
            signature = inspect.signature(self.factory)
        except (TypeError, ValueError):
            return
        arguments = self.arguments(build)
        names = self._parameter_names()
        has_kwargs = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in signature.parameters.values())
        unknown = [key for key in arguments if key not in names]
        if unknown and not has_kwargs:
            takes = f"It takes {', '.join(names)}." if names else "It takes none."
            raise UsageError(f"{self.shown} takes no argument '{unknown[0]}'. {takes}")
        missing = [
            parameter.name
            for parameter in signature.parameters.values()
            if parameter.default is inspect.Parameter.empty
            and parameter.kind not in (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
            and parameter.name not in arguments
        ]
        if missing:
            query = "&".join(f"{name}=…" for name in missing)
            raise UsageError(
                f"{self.shown} needs {'an argument' if len(missing) == 1 else 'arguments'} "
                f"({', '.join(missing)}): write {self.shown}?{query}."
            )

    def accepts(self, parameter: str) -> bool:
        """Return whether the factory has this parameter and the user did not set it."""
        return parameter in self._parameter_names() and parameter not in self.options

    def __call__(self, build: Build) -> nn.Module:
        """Check the arguments and call the factory."""
        self.check(build)
        return self.factory(**self.arguments(build))

    def _parameter_names(self) -> tuple[str, ...]:
        try:
            parameters = inspect.signature(self.factory).parameters.values()
        except (TypeError, ValueError):
            return ()
        return tuple(parameter.name for parameter in parameters if parameter.kind in _BY_NAME)
