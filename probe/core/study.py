"""What every study is: a function from a model, images and a config to a report."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

from probe.core.progress import Progress
from probe.core.report import Report

Config = TypeVar("Config", contravariant=True)


class Study(Protocol[Config]):
    """``run(model, images, config)``: prints nothing, writes no file, builds no HTML."""

    def __call__(
        self, model: Any, images: Any, config: Config, *, progress: Progress = ..., command: str = ...
    ) -> Report:
        """Run the study and return what it found."""
        ...
