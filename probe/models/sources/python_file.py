"""The user's own networks: a function in a Python file or in an importable module."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from probe.core import usercode
from probe.core.contained import contained
from probe.core.errors import UsageError
from probe.models.source import SOURCES, Access, Architecture, Build, ModelRow
from probe.models.usercode import FactoryCall


@SOURCES.register("file")
class PythonFile:
    """Functions that return a network: path/to/net.py:FUNCTION or package.module:FUNCTION."""

    rank: int | None = None

    def knows(self, target: str) -> bool:
        """Return whether this has the form PLACE:FUNCTION."""
        place, colon, factory = target.rpartition(":")
        return bool(colon and place and factory.isidentifier())

    def names(self) -> Collection[str]:
        """Return no names: the user's files are not listed."""
        return ()

    def find(self, target: str, options: Mapping[str, Any], access: Access) -> Architecture:
        """Import the file or module and return the architecture that its function builds.

        Raises UsageError when there is no such file, module or function or it does not accept the options, and
        UserCodeError when the user's code raises.
        """
        place, _, name = target.rpartition(":")
        path = Path(place).expanduser() if place.endswith(".py") else None
        module = usercode.load_file(path) if path else usercode.load_package(place)
        factory = usercode.attribute(module, name, place)
        if isinstance(factory, nn.Module):
            # A network that the file has made itself: a copy each time, so that it stays as it is.
            factory = partial(copy.deepcopy, factory)
        call = FactoryCall(factory, target, options)
        _check_factory(factory, target)
        shown = "&".join(f"{key}={value}" for key, value in options.items())
        return Architecture(
            name=name,
            source=target + (f"?{shown}" if shown else ""),
            build=partial(_build, call, path),
            licence="",
            identity=usercode.digest(module),
            user_code=True,
        )

    def rows(self) -> Iterator[ModelRow]:
        """Yield nothing: the user's files are not listed."""
        return iter(())


def _check_factory(factory: Any, target: str) -> None:
    if not callable(factory):
        raise UsageError(f"{target} is not a function that returns a network, but {_article(factory)}.")


def _build(call: FactoryCall, path: Path | None, build: Build) -> nn.Module:
    call.check(build)
    folder = usercode.import_path(path.resolve().parent) if path else nullcontext()
    with usercode.user_errors(path, f"{call.shown} failed"), folder, contained():
        network: Any = call(build)
    if not isinstance(network, nn.Module):
        raise UsageError(f"{call.shown} returns {_article(network)}, not a network (torch.nn.Module).")
    return network


def _article(value: object) -> str:
    name = type(value).__name__
    return "nothing" if value is None else f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
