"""Context managers that change a module's state and always restore it, and a fingerprint to verify that."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from probe.core.errors import NotApplicableError

_HOOK_TABLES = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_state_dict_hooks",
)


def fingerprint(module: nn.Module) -> str:
    """Return a sha256 over everything that must be the same after a module has been restored.

    Covers state-dict keys, shapes, types and values, the class, training flag, hooks and instance
    attribute names of every submodule, and requires_grad and the presence of a gradient of every parameter.
    """
    digest = hashlib.sha256()
    for key, value in module.state_dict().items():
        digest.update(f"{key} {tuple(value.shape)} {value.dtype}\n".encode())
        plain = value.detach().cpu().contiguous()
        digest.update(plain.reshape(-1).view(torch.uint8).numpy().tobytes() if plain.numel() else b"")
    for name, sub in module.named_modules():
        hooks = [len(getattr(sub, table)) for table in _HOOK_TABLES]
        names = sorted(vars(sub))
        digest.update(f"{name} {type(sub).__qualname__} {sub.training} {hooks} {names}\n".encode())
    for name, parameter in module.named_parameters():
        digest.update(f"{name} {parameter.requires_grad} {parameter.grad is None}\n".encode())
    return digest.hexdigest()


@contextmanager
def training_mode(module: nn.Module, mode: bool) -> Iterator[None]:
    """Set every submodule's training flag inside the block, and restore each flag afterwards."""
    flags = [(sub, sub.training) for sub in module.modules()]
    try:
        module.train(mode)
        yield
    finally:
        for sub, flag in flags:
            sub.training = flag


@contextmanager
def frozen_parameters(module: nn.Module) -> Iterator[None]:
    """Set requires_grad to False for every parameter inside the block."""
    flags = [(parameter, parameter.requires_grad) for parameter in module.parameters()]
    try:
        for parameter, _ in flags:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


@contextmanager
def kept_buffers(module: nn.Module) -> Iterator[None]:
    """Restore the values of all buffers after the block, such as running statistics changed in train mode."""
    values = [(buffer, buffer.detach().clone()) for buffer in module.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in values:
                buffer.copy_(value)


def refuse_torchscript(module: nn.Module) -> None:
    """Raise NotApplicableError for a TorchScript module, and for a network with one inside."""
    if any(isinstance(sub, torch.jit.ScriptModule) for sub in module.modules()):
        raise NotApplicableError(
            "The layers of TorchScript cannot be looked into: give the network as it was before torch.jit.script or "
            "torch.jit.trace. What needs the answers alone works (probe adversarial)."
        )


@contextmanager
def forward_hooks(module: nn.Module, hooks: dict[str, Callable[..., Any]]) -> Iterator[None]:
    """Attach one forward hook per submodule name inside the block; unknown names raise AttributeError.

    Raises NotApplicableError for TorchScript, which runs without its submodules.
    """
    refuse_torchscript(module)
    with ExitStack() as stack:
        for name, hook in hooks.items():
            handle = module.get_submodule(name).register_forward_hook(hook)
            stack.callback(handle.remove)
        yield


def last_map(outputs: Sequence[Tensor]) -> Tensor:
    """Return the last output that is a map (N, C, H, W), for a module that may also have other outputs.

    If there is no map, return the last output. Raises IndexError if there is no output.
    """
    return next((output for output in reversed(outputs) if output.dim() == 4), outputs[-1])


@contextmanager
def captured(
    module: nn.Module, names: Sequence[str], detach: bool = True
) -> Iterator[dict[str, list[Tensor]]]:
    """Collect the outputs of the named submodules during the block's forward passes.

    Yields name → outputs in call order (a reused module gives several). Outputs are cloned,
    because an in-place operation after the layer would otherwise change the recorded values;
    outputs that are not tensors are skipped.
    """
    outputs: dict[str, list[Tensor]] = {name: [] for name in names}

    def keep(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _args: object, output: object) -> None:
            if isinstance(output, Tensor):
                outputs[name].append((output.detach() if detach else output).clone())

        return hook

    with forward_hooks(module, {name: keep(name) for name in names}):
        yield outputs
