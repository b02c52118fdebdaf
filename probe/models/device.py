"""Choosing the device that a model runs on."""

from __future__ import annotations

import torch

from probe.core.errors import CannotRunError, UsageError


def choose_device(name: str) -> tuple[torch.device, str]:
    """Return a device and the choice in words.

    ``auto`` takes CUDA, else MPS, else the CPU. Raises UsageError for a word that names no device and
    CannotRunError for a device that is not here.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda"), f"cuda ({torch.cuda.get_device_name()}; chosen by auto)"
        if torch.backends.mps.is_available():
            return torch.device("mps"), "mps (chosen by auto)"
        return torch.device(
            "cpu"
        ), f"cpu ({torch.get_num_threads()} threads; auto found no CUDA or MPS device)"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"'{name}' is not a device: write auto, cpu, cuda, cuda:1 or mps.") from error
    _check_available(device, name)
    return device, name


def _check_available(device: torch.device, name: str) -> None:
    if device.type == "cpu":
        return
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) < count:
            return
        raise CannotRunError(
            f"There is no device {name}: PyTorch sees {count} CUDA devices. Use --device cpu."
        )
    if device.type == "mps":
        if torch.backends.mps.is_available():
            return
        raise CannotRunError("There is no MPS device here. Use --device cpu.")
    raise UsageError(f"The device {name} is not supported: write auto, cpu, cuda, cuda:1 or mps.")
