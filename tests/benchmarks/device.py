"""The device that benchmarks run on: the CPU, or what PROBE_BENCH_DEVICE names, such as cuda (``make bench-cuda``)."""

from __future__ import annotations

import os

import torch

DEVICE = torch.device(os.environ.get("PROBE_BENCH_DEVICE", "cpu"))


def wait() -> None:
    """Wait until the device has done what it was asked for."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize(DEVICE)


def called() -> str:
    """Return what the device is called."""
    if DEVICE.type == "cuda":
        return torch.cuda.get_device_name(DEVICE)
    return f"{torch.get_num_threads()} threads"
