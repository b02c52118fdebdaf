"""The frame that every report shares: what was run, when, and on what it depended besides its inputs."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from probe.core.document import Json, Report, Section
from probe.core.subject import DataInfo, ModelInfo

_PACKAGES = ("cnn-probe", "torch", "torchvision", "timm", "captum", "numpy", "pillow", "scikit-learn")


def assemble(
    *,
    study: str,
    title: str,
    model: ModelInfo,
    data: DataInfo,
    config: Any,
    seconds: float,
    headline: tuple[str, ...],
    sections: tuple[Section, ...],
    seed: int = 0,
    command: str = "",
    device: str = "cpu",
    choices: Mapping[str, Json] | None = None,
    warnings: tuple[str, ...] = (),
    **rest: Any,
) -> Report:
    """Return the report with its environment, time and status filled in.

    ``config`` is the dataclass of options, or a mapping; ``choices`` are what the study chose where the user left it
    open. ``rest`` are further fields of ``Report``.
    """
    failed = [section for section in sections if section.failed]
    warnings += tuple(f"The part “{part.title}” failed and is missing: {part.reason}" for part in failed)
    options = dataclasses.asdict(config) if dataclasses.is_dataclass(config) else dict(config)  # type: ignore[arg-type]
    return Report(
        study=study,
        title=title,
        model=model,
        data=data,
        config={**options, **(choices or {})},
        environment=environment(device),
        seed=seed,
        command=command,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=round(seconds, 2),
        headline=headline,
        sections=sections,
        status="incomplete" if failed else "skipped inputs" if data.skipped else "done",
        warnings=warnings,
        **rest,
    )


def environment(device: str) -> dict[str, str]:
    """Return the versions and the machine facts that a report records; no user or host names."""
    import torch

    facts = {"python": platform.python_version(), "platform": platform.platform(terse=True)}
    for package in _PACKAGES:
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            continue
    facts["device"] = device
    facts["cpu capability"] = torch.backends.cpu.get_cpu_capability()
    facts["threads"] = str(torch.get_num_threads())
    if device.startswith("cuda"):
        facts["gpu"] = torch.cuda.get_device_name(device)
    return facts
