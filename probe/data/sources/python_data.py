"""A function of the user's own that returns images: my_data.py:FUNCTION."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from probe.core import usercode
from probe.core.contained import contained
from probe.core.errors import UsageError
from probe.core.option_string import parse_options
from probe.data.images import ImageSet
from probe.data.objects import from_object
from probe.data.source import SOURCES, Request


@SOURCES.register("python")
def python_data(request: Request) -> ImageSet:
    """A function my_data.py:FUNCTION, with ?key=value, that returns a Dataset or other images."""
    target, mark, query = request.target.partition("?")
    options = parse_options(query, request.target) if mark else {}
    place, _, name = target.rpartition(":")
    path = Path(place).expanduser() if place.endswith(".py") else None
    module = usercode.load_file(path) if path else usercode.load_package(place)
    value = usercode.attribute(module, name, place)
    if isinstance(value, type) or (callable(value) and not hasattr(value, "__getitem__")):
        usercode.check_arguments(value, target, options)
        with usercode.user_errors(path, f"{request.target} failed"), contained():
            value = value(**options)
    elif options:
        raise UsageError(f"{target} is not a function or a class, so that it takes no arguments.")
    if value is None:
        raise UsageError(
            f"{request.target} returns nothing: return a Dataset, a DataLoader, or (images, labels)."
        )
    with usercode.user_errors(path, f"{request.target} failed"), contained():
        images = from_object(value, None, sys.maxsize, 0, name)
    return replace(images, source=f"{images.source}, from {request.target}")
