"""Properties of a network, read from its attributes and measured by one forward pass."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.parameter import is_lazy
from torch.utils.flop_counter import FlopCounterMode

from probe.core.errors import CannotRunError, UsageError
from probe.core.memory import total_memory
from probe.core.state import training_mode
from probe.data.spec import Aspect, InputSpec, Interpolation
from probe.graph.cost.operations import without_fused_attention
from probe.models.first_pass import ShapeError, describe, explain, only_batches_of
from probe.models.source import NORMALISATION, RESIZING, SIZE, Preprocessing

_BATCH = 2
_COPIES = 8
"""The least number of copies of the images, of their size, that a network is expected to hold at once."""

_CONVOLUTION_SHARE = 0.5
DEFAULT_SIZE = 224
SIDES = (224, 32, 28, 64, 8, 16, 48, 96, 128, 160, 192, 256, 299, 384, 512)
"""Image sides that are tried, in this order, for a network of unknown input size."""

UNKNOWN_NORMALISATION = (
    "The normalisation of this network is not known: it gets pixels in [0, 1] unchanged "
    "(set --mean and --std to change that)."
)


@dataclass(frozen=True)
class NetworkFacts:
    """``macs``: multiply-accumulates for one image; ``convolution_share``: the part done in convolutions."""

    num_classes: int
    macs: int
    convolution_share: float


def measure(network: nn.Module, size: tuple[int, int, int], name: str) -> NetworkFacts:
    """Run the network once on zeros of shape (2, *size) on its device and return its properties.

    MACs are half of what torch's FLOP counter counts (convolutions and matrix products). Raises ShapeError
    when the network does not accept the size, and CannotRunError when its output is not logits (N, classes).
    """
    check_affordable(size)
    parameter = next(network.parameters(), None)
    device = torch.device("cpu") if parameter is None else parameter.device
    zeros = torch.zeros(_BATCH, *size, device=device)
    counter = FlopCounterMode(display=False)
    with training_mode(network, False), torch.inference_mode():
        try:
            # Attention as plain matrix products: torch's counter does not see inside the fused kernel.
            with without_fused_attention(), sdpa_kernel(SDPBackend.MATH), counter:
                output = network(zeros)
        except (Exception, SystemExit):
            # The counter may fail where the network does not, and hides what TorchScript says.
            try:
                output = network(zeros)
            except (Exception, SystemExit) as error:
                raise explain(network, size, name, error) from error
        _check_other_batch(network, torch.zeros(_BATCH + 1, *size, device=device), name)
    _check_logits(output, name)
    operations = counter.get_flop_counts().get("Global", {})
    convolutions = sum(count for operation, count in operations.items() if "convolution" in str(operation))
    total = sum(operations.values())
    return NetworkFacts(int(output.shape[1]), total // (2 * _BATCH), convolutions / total if total else 0.0)


def _check_other_batch(network: nn.Module, images: Tensor, name: str) -> None:
    """Raise CannotRunError for a network that takes batches of two images, and not these three."""
    try:
        network(images)
    except (Exception, SystemExit) as error:
        raise only_batches_of(_BATCH, name, describe(error)) from error


def check_affordable(size: tuple[int, int, int]) -> None:
    """Raise UsageError for an input (C, H, W) of which a first layer's outputs for two images cannot fit into memory."""
    needed, there = 4 * _BATCH * math.prod(size) * _COPIES, total_memory()
    if needed > there:
        raise UsageError(
            f"Images of {'×'.join(map(str, size))} need at least {needed / 2**30:,.0f} GiB of memory in a network, and this "
            f"machine has {there / 2**30:,.0f} GiB: choose a smaller input size (--img-size)."
        )


@contextmanager
def size_of_the_users_choice(img_size: tuple[int, int] | None) -> Iterator[None]:
    """Turn the refusal of a size inside the block into a UsageError where the user chose the size."""
    try:
        yield
    except ShapeError as error:
        if img_size is None:
            raise
        raise UsageError(str(error)) from error


def choose_memory_format(facts: NetworkFacts, device: torch.device) -> torch.memory_format:
    """Return channels_last on a CPU for networks that do at least half of their work in convolutions.

    The rule depends on the network and not on timing, so that results are reproducible. Measured on
    16 images with two cores, channels_last was 1.1 to 2.0 times as fast for 18 convolutional networks
    (resnet18 1.2, efficientnet_lite0 1.4, vgg11 1.3, densenet121 1.4, mobilenet_v3_small 1.4, squeezenet1_1
    2.0), and equally fast for convnext_tiny and for transformers, whose work is mostly matrix products.
    """
    faster = device.type == "cpu" and facts.convolution_share >= _CONVOLUTION_SHARE
    return torch.channels_last if faster else torch.contiguous_format


def framing_of(network: nn.Module) -> tuple[Preprocessing, tuple[str, ...]]:
    """Return the preprocessing of a user's network, with notes on what was assumed.

    Read from the attributes ``pretrained_cfg`` or ``default_cfg`` (as timm's networks have them) or
    ``input_size`` (a number, (H, W) or (C, H, W)). Without them, the input has 224×224 pixels and the channels of the
    first convolution, images of other sizes are resized to it without a crop, and there is no normalisation.
    """
    config = _config_of(network)
    size = _size_of(network, config)
    spec, assumed = own_input(size), () if _has_size(network, config) else (SIZE,)
    if config.get("crop_pct"):
        spec = published_input(size, config)
    else:
        assumed = (*assumed, RESIZING)
    if config.get("mean") is not None and config.get("std") is not None:
        mean, std = (tuple(map(float, config[name])) for name in ("mean", "std"))
        return Preprocessing(spec, mean, std, assumed), ()
    zeros, ones = (0.0,) * size[0], (1.0,) * size[0]
    return Preprocessing(spec, zeros, ones, (*assumed, NORMALISATION)), (UNKNOWN_NORMALISATION,)


def own_input(size: tuple[int, int, int], interpolation: Interpolation = "bilinear") -> InputSpec:
    """Return the input of a network whose resizing is not known: no crop, and images of its size stay as they are."""
    return InputSpec(size, 1.0, interpolation, "squash", as_is=True)


def published_input(size: tuple[int, int, int], config: Mapping[str, Any]) -> InputSpec:
    """Return the input that a configuration of timm describes, as timm's evaluation transform makes it."""
    modes: dict[str, Interpolation] = {"nearest": "nearest", "bilinear": "bilinear"}
    interpolation = modes.get(str(config.get("interpolation")), "bicubic")
    aspects: dict[str, Aspect] = {"squash": "squash", "border": "pad"}
    aspect = aspects.get(str(config.get("crop_mode")), "keep")
    fill = tuple(round(255 * value) for value in config["mean"]) if aspect == "pad" else ()
    return InputSpec(size, min(1.0, float(config["crop_pct"])), interpolation, aspect, fill=fill)


def find_size(
    network: nn.Module, framing: Preprocessing, name: str, images: tuple[int, int] | None = None
) -> tuple[NetworkFacts, Preprocessing]:
    """Run the network once; if its input size is not known, try sizes until it accepts one.

    First the (height, width) of the images, if they have one of at most 224 pixels a side, then 224, then common sizes.
    Raises ShapeError when the network accepts none of them.
    """
    size = framing.input.size
    candidates = [size[1:]]
    if SIZE in framing.assumed:
        native = [images] if images and max(images) <= DEFAULT_SIZE else []
        candidates = list(dict.fromkeys([*native, size[1:], *((side, side) for side in SIDES)]))
    refused: ShapeError | None = None
    for height, width in candidates:
        try:
            facts = measure(network, (size[0], height, width), name)
        except ShapeError as error:
            refused = refused or error
            continue
        return facts, replace(framing, input=framing.input.resized((height, width)))
    raise refused or ShapeError(f"{name} accepts no images.")


def first_channels(network: nn.Module) -> int:
    """Return the input channels of the first convolution, 3 if there is none.

    Where no module is a convolution, as in TorchScript, it is the first weight with four dimensions.
    """
    for sub in network.modules():
        if isinstance(sub, nn.Conv2d):
            return int(sub.in_channels)
    weights = (value for value in network.parameters() if not is_lazy(value) and value.ndim == 4)
    return next((int(value.shape[1]) for value in weights), 3)


def _config_of(network: nn.Module) -> dict[str, Any]:
    for name in ("pretrained_cfg", "default_cfg"):
        value = getattr(network, name, None)
        if isinstance(value, dict):
            return value
        if value is not None and hasattr(value, "__dict__"):
            return dict(vars(value))
    return {}


def _has_size(network: nn.Module, config: Mapping[str, Any]) -> bool:
    return getattr(network, "input_size", None) is not None or config.get("input_size") is not None


def _size_of(network: nn.Module, config: dict[str, Any]) -> tuple[int, int, int]:
    value = getattr(network, "input_size", None) or config.get("input_size") or DEFAULT_SIZE
    channels = first_channels(network)
    try:
        numbers = [int(value)] * 2 if isinstance(value, int) else [int(number) for number in value]
    except (TypeError, ValueError):
        numbers = [DEFAULT_SIZE] * 2
    if len(numbers) == 1:
        numbers *= 2
    if len(numbers) == 2:
        numbers = [channels, *numbers]
    if len(numbers) != 3 or min(numbers) < 1:
        numbers = [channels, DEFAULT_SIZE, DEFAULT_SIZE]
    return numbers[0], numbers[1], numbers[2]


def _check_logits(output: object, name: str) -> None:
    if not isinstance(output, Tensor):
        raise CannotRunError(
            f"{name} returns a {type(output).__name__}, not one tensor of logits (N, classes): wrap it in a "
            "module that returns the logits."
        )
    if output.layout != torch.strided:
        raise CannotRunError(
            f"{name} returns a tensor that is not dense ({str(output.layout).removeprefix('torch.')}): return x.to_dense()."
        )
    if output.ndim != 2 or output.shape[0] != _BATCH or output.shape[1] < 1 or not output.is_floating_point():
        raise CannotRunError(
            f"{name} returns {output.dtype} of shape {tuple(output.shape)} for {_BATCH} images, not logits "
            "(N, classes)."
        )
    if output.shape[1] < 2:
        raise CannotRunError(f"{name} has a single output: at least two classes are needed.")


def choose_device(name: str) -> tuple[torch.device, str]:
    """Return a device and a description of the choice.

    ``auto`` is CUDA if available, else MPS, else the CPU. Raises UsageError for an invalid name and
    CannotRunError for a device that is not available.
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
            f"There is no device {name}: PyTorch finds {count} CUDA devices. Use --device cpu."
        )
    if device.type == "mps":
        if torch.backends.mps.is_available():
            return
        raise CannotRunError("There is no MPS device on this machine. Use --device cpu.")
    raise UsageError(f"The device {name} is not supported: write auto, cpu, cuda, cuda:1 or mps.")
