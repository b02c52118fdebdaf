"""The network as attacks see it: logits with a gradient towards the pixels, every pass counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self

import torch
from torch import Tensor, nn

Seen = Callable[[Tensor, Tensor], None]
"""Called with the images and the detached logits of every pass with gradients or without."""


class AttackedModel(nn.Module):
    """Wraps a module on pixels in [0, 1] for the time of an attack; nothing of the module is changed.

    ``forward`` gives float32 logits (N, classes); where gradients are recorded the passes may run through
    ``gradient_module``, the same function computed faster, and with ``bf16`` under bfloat16 autocast: both may find a
    direction but never decide. ``verdict`` is the plain module in float32 without gradients. ``train`` and
    ``eval`` do nothing, so that no attack of another library switches the module's mode. ``queries`` counts
    images forwarded, ``gradients`` images of which a gradient was asked, ``rescued`` images for which an attack
    of another library found an adversarial example and returned something else.
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
        """Return itself: the mode of the attacked module is not an attack's to change."""
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
        with torch.no_grad():
            logits: Tensor = self.module(images.detach().contiguous(memory_format=self.memory_format))
        return logits.float()

    @property
    def approximate(self) -> bool:
        """True when logits that come with gradients may differ from the verdict's by more than rounding."""
        return self.bf16 or self.gradient_module is not None

    @contextmanager
    def full_precision(self) -> Iterator[None]:
        """Take gradients of the plain module in float32 inside the block."""
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
