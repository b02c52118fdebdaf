"""The interface of the network for attacks: logits with gradients with respect to the pixels, and query counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self

import torch
from torch import Tensor, nn

from probe.core.errors import check_answers
from probe.core.precision import exact_float32

Seen = Callable[[Tensor, Tensor], None]
"""Called with the images and the detached logits of every pass, with or without gradients."""


class AttackedModel(nn.Module):
    """Wrapper of a module on pixels in [0, 1] during an attack; the module itself is not changed.

    ``forward`` returns float32 logits (N, classes); passes with gradients may use
    ``gradient_module``, a faster implementation of the same function, and with ``bf16``, bfloat16 autocast: both can
    give a direction but never decide about success. ``verdict`` is the plain module in float32 without gradients.
    ``train`` and ``eval`` do nothing, so that attacks of other libraries cannot change the module's mode. ``queries``
    counts forward passes of images, ``gradients`` those with gradients, ``rescued`` the images for which an attack
    of another library found an adversarial example but returned something else.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        memory_format: torch.memory_format = torch.contiguous_format,
        bf16: bool = False,
        gradient_module: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.module = module
        self.gradient_module = gradient_module
        self.training = False
        self.memory_format = memory_format
        self.bf16 = bf16
        self.queries = 0
        self.gradients = 0
        self.rescued = 0
        self._seen: Seen | None = None

    def train(self, mode: bool = True) -> Self:
        """Return itself: attacks must not change the mode of the module."""
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Return float32 logits (N, classes)."""
        recording = torch.is_grad_enabled() and images.requires_grad
        self.queries += len(images)
        self.gradients += len(images) if recording else 0
        placed = images.contiguous(memory_format=self.memory_format)
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.bf16 and recording):
            logits: Tensor = (
                self.gradient_module if self.gradient_module is not None and recording else self.module
            )(placed)
        logits = logits.float()
        if self._seen is not None:
            self._seen(images.detach(), logits.detach())
        return logits

    def verdict(self, images: Tensor) -> Tensor:
        """Return the plain module's float32 logits (N, classes), without gradients."""
        self.queries += len(images)
        with torch.no_grad(), exact_float32():
            logits: Tensor = self.module(images.detach().contiguous(memory_format=self.memory_format))
        check_answers(len(logits), len(images))
        return logits.float()

    @property
    def approximate(self) -> bool:
        """Whether logits with gradients may differ from those of ``verdict`` by more than rounding."""
        return self.bf16 or self.gradient_module is not None

    @contextmanager
    def in_float32(self) -> Iterator[None]:
        """Compute gradients in float32 inside the block, by ``gradient_module`` where there is one."""
        before, self.bf16 = self.bf16, False
        try:
            yield
        finally:
            self.bf16 = before

    @contextmanager
    def full_precision(self) -> Iterator[None]:
        """Compute gradients of the plain module in float32 inside the block."""
        before = self.bf16, self.gradient_module
        self.bf16, self.gradient_module = False, None
        try:
            yield
        finally:
            self.bf16, self.gradient_module = before

    @contextmanager
    def on_forward(self, seen: Seen) -> Iterator[None]:
        """Call ``seen`` for every pass inside the block."""
        before, self._seen = self._seen, seen
        try:
            yield
        finally:
            self._seen = before
