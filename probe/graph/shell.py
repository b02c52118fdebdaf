"""A copy of a module that shares every tensor with it, so that work on the copy leaves the module alone."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from probe.core import seeds


def shell(module: nn.Module) -> nn.Module:
    """Return a copy of ``module`` in eval mode: its own submodules, hooks and flags, the same tensors.

    Parameters, buffers and tensor attributes are shared, so a weight changed in place changes in both. So are
    attributes that cannot be copied, such as locks and open files.
    """
    shared: dict[int, Any] = {}
    for sub in module.modules():
        for value in (*sub._parameters.values(), *sub._buffers.values(), *vars(sub).values()):
            if isinstance(value, Tensor):
                shared[id(value)] = value
    try:
        made = copy.deepcopy(module, dict(shared))
    except Exception:
        made = copy.deepcopy(module, shared | _uncopyable(module, shared))
    return made.eval()


@contextmanager
def isolated(module: nn.Module) -> Iterator[None]:
    """Run forward passes inside the block without gradients, reproducibly, and without lasting effects on tensors.

    Buffers that a pass changes are put back; the global random generators are seeded inside and restored after.
    """
    kept = [(buffer, _version(buffer), buffer.detach().clone()) for buffer in module.buffers()]
    try:
        with seeds.scoped(0, "graph"), torch.no_grad():
            yield
    finally:
        for buffer, version, value in kept:
            if version is None or _version(buffer) != version:
                with torch.no_grad():
                    buffer.copy_(value)


def _uncopyable(module: nn.Module, shared: dict[int, Any]) -> dict[int, Any]:
    """Return the plain attributes of all submodules that ``copy.deepcopy`` refuses, by identity."""
    found: dict[int, Any] = {}
    for sub in module.modules():
        for name, value in vars(sub).items():
            if name in ("_parameters", "_buffers", "_modules"):
                continue
            try:
                copy.deepcopy(value, dict(shared))
            except Exception:
                found[id(value)] = value
    return found


def _version(tensor: Tensor) -> int | None:
    """Return the counter that every change in place raises; inference tensors have none."""
    return None if tensor.is_inference() else tensor._version
