"""What a result depends on besides its inputs: versions, processor, threads."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

_PACKAGES = ("cnn-probe", "torch", "torchvision", "timm", "captum", "numpy", "pillow", "scikit-learn")


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
