"""A device that is not the CPU: its tensors refuse to meet the CPU's, and their values are computed on the CPU.

Inside ``pretended_gpu`` code for a GPU runs as it would on one, as far as devices are concerned: two devices in one operation, and
``numpy()`` of its tensors raise what PyTorch raises. Values, and so results, are those of the CPU. The device is
called ``meta``, because PyTorch's autograd asks a driver about every other one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

GPU = torch.device("meta")
_ATEN = torch.ops.aten
_ANY_DEVICE = {_ATEN.copy_.default, _ATEN.index.Tensor, _ATEN.index_put_.default, _ATEN.index_put.default}
"""Operations that take tensors of two devices: a copy, and indices of the CPU's."""


class GpuTensor(Tensor):
    """A tensor on the pretended device."""

    value: Tensor

    @staticmethod
    def __new__(cls, value: Tensor) -> GpuTensor:
        made: GpuTensor = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            value.size(),
            strides=value.stride(),
            storage_offset=value.storage_offset(),
            dtype=value.dtype,
            layout=value.layout,
            device=GPU,
        )
        made.value = value
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    def __repr__(self) -> str:  # type: ignore[override]
        return f"GpuTensor({self.value!r})"

    def __getitem__(self, index: Any) -> Tensor:
        """Index; PyTorch makes a tensor of a list below the dispatcher."""
        found: Tensor = super().__getitem__(_places(index))
        return found

    def __setitem__(self, index: Any, values: Any) -> None:
        """Set what is indexed."""
        super().__setitem__(_places(index), values)

    def untyped_storage(self) -> torch.UntypedStorage:
        """Return the memory, by which views of one tensor are recognised."""
        return self.value.untyped_storage()

    def tolist(self) -> Any:
        """Return the values, which PyTorch fetches from a GPU."""
        return self.value.tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _places(index: Any) -> tuple[Any, ...]:
    parts = index if isinstance(index, tuple) else (index,)
    return tuple(torch.tensor(part) if isinstance(part, list) else part for part in parts)


def _is_gpu(device: object) -> bool:
    return device is not None and torch.device(device).type == GPU.type  # type: ignore[call-overload]


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    leaves = tree_leaves((args, kwargs))
    there = any(isinstance(leaf, GpuTensor) for leaf in leaves)
    here = [
        leaf for leaf in leaves if isinstance(leaf, Tensor) and not isinstance(leaf, GpuTensor) and leaf.dim()
    ]
    device = kwargs.get("device")
    moved = device is not None
    if there and here and not moved and func not in _ANY_DEVICE:
        raise RuntimeError(f"Expected all tensors to be on the same device, but found cpu and a GPU ({func})")
    on_gpu = _is_gpu(device) if moved else there
    if kwargs.get("generator") is not None and on_gpu:
        raise RuntimeError(f"Expected a 'cuda' device type for generator but found 'cpu' ({func})")
    plain = tree_map(lambda leaf: leaf.value if isinstance(leaf, GpuTensor) else leaf, (args, kwargs))
    if moved:
        plain[1]["device"] = torch.device("cpu")
        if func is _ATEN._to_copy.default:
            plain[1].pop("non_blocking", None)
    out = func(*plain[0], **plain[1])
    if func is _ATEN.copy_.default:
        return args[0]
    if not on_gpu:
        return out
    known = {id(leaf.value): leaf for leaf in leaves if isinstance(leaf, GpuTensor)}
    wrapped = tree_map(
        lambda leaf: (
            (known[id(leaf)] if id(leaf) in known else GpuTensor(leaf)) if isinstance(leaf, Tensor) else leaf
        ),
        out,
    )
    return return_and_correct_aliasing(func, args, kwargs, wrapped) if there else wrapped


class _Mode(TorchDispatchMode):
    """Sends operations that name the device to tensors there."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


@contextmanager
def pretended_gpu() -> Iterator[torch.device]:
    """Lend the device. Autocast, which does not know it, is left out there; inference mode, which subclasses cannot take part
    in, is ``no_grad``.
    """
    before = {name: getattr(torch, name) for name in ("autocast", "inference_mode", "tensor", "as_tensor")}
    autocast = torch.autocast

    def known(device_type: str, *args: Any, **kwargs: Any) -> Any:
        return nullcontext() if device_type == GPU.type else autocast(device_type, *args, **kwargs)

    def made(make: Any) -> Any:
        """Return a function that builds on the CPU and moves: tensors from numbers are built below the dispatcher."""

        def build(data: Any, *args: Any, device: Any = None, **kwargs: Any) -> Tensor:
            built = make(data, *args, **kwargs)
            return built if device is None else built.to(device)

        return build

    def without_gradients(mode: bool = True) -> Any:
        return torch.no_grad() if mode else nullcontext()

    torch.autocast = known  # type: ignore[assignment,misc]
    torch.inference_mode = without_gradients  # type: ignore[assignment,misc]
    torch.tensor, torch.as_tensor = made(torch.tensor), made(torch.as_tensor)
    try:
        with _Mode():
            yield GPU
    finally:
        for name, function in before.items():
            setattr(torch, name, function)
