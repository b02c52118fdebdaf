"""``LoadedModel``: a network with its normalisation included, and its provenance."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from probe.core import seeds
from probe.core.errors import UsageError
from probe.core.precision import exact_float32
from probe.core.subject import ModelInfo
from probe.data.images import InputSpec


class Normalise(nn.Module):
    """Map pixels in [0, 1] to ``(pixels − mean) / std``, one value per channel."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalise (N, C, H, W) pixels."""
        return (pixels - self.mean) / self.std


class PixelModel(nn.Module):
    """A network that takes pixels in [0, 1]: ``network(normalise(pixels))``.

    ``differentiable`` is False for a network whose backward pass fails: then no gradient is recorded.
    """

    def __init__(self, network: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.normalise = Normalise(mean, std)
        self.network = network
        self.differentiable = True

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits (N, classes) for (N, C, H, W) pixels in [0, 1]."""
        with nullcontext() if self.differentiable else torch.no_grad():
            logits: Tensor = self.network(self.normalise(pixels))
        return logits


@dataclass(frozen=True)
class Provenance:
    """The origin of a network and its weights.

    ``source`` is what was loaded (``torchvision:resnet18``); ``weights`` describes the weights in words; ``notes`` are
    sentences that the console and the report must show (digits weights, random weights …).
    """

    source: str
    weights: str
    file: str = ""
    url: str = ""
    sha256: str | None = None
    licence: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class LoadedModel:
    """A network ready to be studied.

    ``module`` takes pixels in [0, 1], shape (N, C, H, W), and returns logits (N, num_classes); it is in eval mode and
    its parameters are frozen. Layer names are those of ``network``.
    ``domain`` is the task: 'imagenet', 'digits', 'fashion-mnist', 'cifar10' or 'unknown'.
    ``factory`` builds the same architecture with random weights, drawn from torch's global generator.
    ``device_text`` says which device was chosen and why; ``macs`` are multiply-accumulates per image. ``assumed`` are
    the parts of the preprocessing that are not known to be those of the training (see ``Preprocessing``).
    """

    name: str
    module: PixelModel
    input: InputSpec
    num_classes: int
    class_names: tuple[str, ...] | None
    domain: str
    device: torch.device
    memory_format: torch.memory_format
    provenance: Provenance
    factory: Callable[[], nn.Module]
    macs: int | None = None
    device_text: str = ""
    assumed: tuple[str, ...] = ()

    @property
    def network(self) -> nn.Module:
        """The network itself, without the normalisation."""
        return self.module.network

    @property
    def parameters(self) -> int:
        """The number of parameters; shared parameters are counted once."""
        return sum(parameter.numel() for parameter in self.module.parameters())

    def fresh(self, seed: int) -> LoadedModel:
        """Return the same network with new random weights; everything else stays the same.

        The same seed always gives the same weights; the global generators are not changed.
        The result is in eval mode with parameters frozen, like every LoadedModel. If the factory always returns the
        same weights, they are drawn again with each module's ``reset_parameters``; CannotRunError names a weight that
        does not change.
        """
        with seeds.scoped(seed, "fresh weights"):
            network = self.factory()
        mean, std = self.module.normalise.mean, self.module.normalise.std
        module = prepare(
            network,
            tuple(mean.flatten().tolist()),
            tuple(std.flatten().tolist()),
            self.device,
            self.memory_format,
        )
        provenance = random_provenance(self.provenance.source, seed, self.provenance.licence)
        return replace(self, module=module, provenance=provenance)

    def logits(self, images: Tensor, batch_size: int = 32) -> Tensor:
        """Return logits (N, num_classes) on the model's device for (N, C, H, W) images in [0, 1].

        Computed in inference mode, ``batch_size`` images at a time; the images may be on any device.
        """
        if len(images) == 0:
            return torch.empty(0, self.num_classes, device=self.device)
        with torch.inference_mode(), exact_float32():
            parts = [
                self.module(part.to(self.device, memory_format=self.memory_format))
                for part in torch.split(images, batch_size)
            ]
        return torch.cat(parts)

    def check_classes(self, classes: Sequence[str] | int, data_name: str) -> None:
        """Raise UsageError unless the data has as many classes as the model has logits.

        ``classes`` are the data's class names or their number.
        """
        count = classes if isinstance(classes, int) else len(classes)
        if count != self.num_classes:
            raise UsageError(
                f"The model {self.name} ({self.provenance.weights}) has {self.num_classes} classes but the "
                f"data {data_name} has {count}: choose data with {self.num_classes} classes, or a model or "
                f"--weights with {count}."
            )

    def info(self) -> ModelInfo:
        """Return the description of this model for a report."""
        origin = self.provenance
        return ModelInfo(
            name=self.name,
            source=origin.source,
            weights=origin.weights,
            sha256=origin.sha256,
            parameters=self.parameters,
            macs=self.macs,
            input_size=self.input.size,
            num_classes=self.num_classes,
            licence=origin.licence,
            file=origin.file,
            notes=origin.notes,
        )

    def to(self, device: torch.device | str) -> LoadedModel:
        """Return a copy on another device; this model stays on its own."""
        target = torch.device(device)
        module = copy.deepcopy(self.module).to(target)
        return replace(self, module=module, device=target, device_text=str(target))

    def example(self, n: int = 1, seed: int = 0, stream: str = "example") -> Tensor:
        """Return ``n`` images of uniform noise, (n, C, H, W), on the model's device, for tracing and checking it."""
        noise = torch.rand((n, *self.input.size), generator=seeds.generator(seed, stream))
        return noise.to(self.device, memory_format=self.memory_format)


def prepare(
    network: nn.Module,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    device: torch.device,
    memory_format: torch.memory_format,
) -> PixelModel:
    """Put the normalisation in front of a network, freeze it, set eval mode, and move it to the device."""
    module = PixelModel(network, mean, std).eval().requires_grad_(False)
    return module.to(device=device, memory_format=memory_format)  # type: ignore[call-overload, no-any-return]


def random_provenance(source: str, seed: int, licence: str = "", notes: tuple[str, ...] = ()) -> Provenance:
    """Return the provenance of a network with new random weights, with a note that says so."""
    note = f"The weights are random (seed {seed}): this network has learned nothing."
    return Provenance(source, f"random, seed {seed}", licence=licence, notes=(note, *notes))
