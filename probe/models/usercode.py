"""Calling a user's factory with the options that the user typed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from probe.core import usercode
from probe.models.source import Build


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
        parameters = usercode.parameter_names(self.factory)
        added = {"num_classes": build.num_classes, "img_size": build.img_size}
        extra = {
            key: value
            for key, value in added.items()
            if key in parameters and key not in self.options and value is not None
        }
        return {**self.options, **extra}

    def check(self, build: Build) -> None:
        """Raise UsageError if the factory does not accept these arguments, or needs more."""
        usercode.check_arguments(self.factory, self.shown, self.arguments(build))

    def accepts(self, parameter: str) -> bool:
        """Return whether the factory has this parameter and the user did not set it."""
        return parameter in usercode.parameter_names(self.factory) and parameter not in self.options

    def __call__(self, build: Build) -> nn.Module:
        """Check the arguments and call the factory."""
        self.check(build)
        return self.factory(**self.arguments(build))
