"""A module in memory → ``LoadedModel``."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import torch
from torch import nn

from probe.core.errors import CannotRunError, UsageError
from probe.core.state import fingerprint
from probe.data.images import ImageSet, InputSpec
from probe.models.labels import class_names
from probe.models.loaded import LoadedModel, Provenance, prepare
from probe.models.measure import (
    NetworkFacts,
    ShapeError,
    choose_device,
    choose_memory_format,
    first_channels,
    framing_of,
    measure,
)
from probe.models.source import Preprocessing
from probe.models.weights.reinitialise import reinitialise

_SIDES = (224, 32, 28, 64, 8, 16, 48, 96, 128, 160, 192, 256, 299, 384, 512)
"""Sides that are tried, in this order, for a network that does not say what it takes."""


def wrap(
    module: nn.Module,
    *,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    classes: Sequence[str] | int | None = None,
    input_size: int | Sequence[int] | None = None,
    name: str | None = None,
    factory: Callable[[], nn.Module] | None = None,
    device: str | torch.device | None = None,
    domain: str = "unknown",
) -> LoadedModel:
    """Take a copy of a network in memory, ready to be studied; the module itself is left as it is.

    ``module`` returns logits (N, classes) for normalised images (N, C, H, W); ``mean`` and ``std`` are the
    normalisation that it was trained with, one value or one per channel of pixels in [0, 1] (None: what its
    ``pretrained_cfg`` says, else none, with a note). ``classes``: their names, or their number. ``input_size``: a side,
    (H, W) or (C, H, W); where it is None and the network does not say it, it is that of the images studied.
    ``factory`` builds the same network with random weights, which retraining and the randomisation of attributions
    need; without it a copy is drawn anew by each module's ``reset_parameters``. ``device``: None keeps the module's.

    Later changes of the module do not reach the copy. Raises UsageError for words and numbers that do not fit,
    CannotRunError when the network cannot be copied or run.
    """
    if not isinstance(module, nn.Module):
        raise UsageError(f"probe.wrap takes a torch.nn.Module, not a {type(module).__name__}.")
    title = name or type(module).__name__
    network, notes = _private_copy(module, title)
    framing, assumed = framing_of(network)
    known = input_size is not None or _says_its_size(network)
    if input_size is not None:
        framing = replace(framing, input=replace(framing.input, size=_size(input_size, network)))
    framing = _normalised(framing, mean, std)
    facts, framing = _first_pass(network, framing, known, title)
    chosen, device_text = choose_device("auto" if device is None else str(device))
    if device is None:
        chosen = _device_of(module)
        device_text = f"{chosen} (where the module is)"
    layout = choose_memory_format(facts, chosen)
    origin = f"{type(module).__module__}.{type(module).__qualname__}"
    return LoadedModel(
        name=title,
        module=prepare(network, framing.mean, framing.std, chosen, layout),
        input=framing.input,
        num_classes=facts.num_classes,
        class_names=_names(classes, facts.num_classes, title),
        domain=domain,
        device=chosen,
        memory_format=layout,
        provenance=Provenance(
            f"{origin}, in memory",
            "as they were in memory",
            sha256=fingerprint(network),
            notes=(*notes, *(() if mean is not None or std is not None else assumed)),
        ),
        factory=factory or _Redraw(network, title),
        macs=facts.macs,
        device_text=device_text,
        size_known=known,
    )


def wrap_for(module: nn.Module, images: ImageSet) -> LoadedModel:
    """Wrap a module by its own word, else with the size of the images as its input size."""
    if images.shape is None or _says_its_size(module):
        return wrap(module)
    first = next((sub for sub in module.modules() if isinstance(sub, nn.Conv2d)), None)
    channels = images.shape[0] if first is None else first.in_channels
    return wrap(module, input_size=(channels, *images.shape[1:]))


def fitted(model: LoadedModel, images: ImageSet) -> LoadedModel:
    """Return the model with the images' size as its input size, where it was not known which one it takes.

    Images are then neither resized nor cropped. Raises ShapeError when the network does not take them.
    """
    if model.size_known or images.shape is None or images.shape == model.input.size:
        return model
    channels = model.input.size[0]
    size = (channels, *images.shape[1:])
    facts = measure(model.module, size, model.name)
    return replace(
        model,
        input=InputSpec(size, 1.0, model.input.interpolation),
        num_classes=facts.num_classes,
        macs=facts.macs,
        size_known=True,
    )


@dataclass(frozen=True)
class _Redraw:
    """Build the network again by drawing the weights of a copy; can be pickled where the network can."""

    network: nn.Module
    name: str

    def __call__(self) -> nn.Module:
        try:
            return reinitialise(copy.deepcopy(self.network).requires_grad_(True), self.name)
        except CannotRunError as error:
            raise CannotRunError(
                f"{str(error).removesuffix('Give that module one.')}Give probe.wrap a factory= that builds the network "
                "with random weights."
            ) from error


def _private_copy(module: nn.Module, name: str) -> tuple[nn.Module, tuple[str, ...]]:
    """Return a copy without wrappers for several devices and in float32, with notes on what was changed."""
    notes: list[str] = []
    if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
        notes.append(f"The network inside {type(module).__name__} is studied, on one device.")
        module = module.module
    try:
        network = copy.deepcopy(module)
    except Exception as error:
        raise CannotRunError(
            f"{name} cannot be copied ({type(error).__name__}: {error}): remove what holds open files, locks or "
            "tensors of a running computation from the module, or load it by a factory in a file."
        ) from error
    for parameter in network.parameters():
        parameter.grad = None
    kinds = {value.dtype for value in network.state_dict().values() if value.is_floating_point()}
    other = sorted(str(kind).removeprefix("torch.") for kind in kinds - {torch.float32})
    if other:
        network = network.float()
        notes.append(f"The network's {', '.join(other)} tensors are studied in float32.")
    return network, tuple(notes)


def _first_pass(
    network: nn.Module, framing: Preprocessing, known: bool, name: str
) -> tuple[NetworkFacts, Preprocessing]:
    """Run the network once; where its size is not known, try usual ones until it takes one."""
    size = framing.input.size
    refused: ShapeError | None = None
    for side in (None,) if known else (None, *_SIDES):
        wanted = size if side is None else (size[0], side, side)
        try:
            facts = measure(network, wanted, name)
        except ShapeError as error:
            refused = refused or error
            continue
        return facts, replace(framing, input=replace(framing.input, size=wanted))
    raise CannotRunError(
        f"{str(refused).removesuffix('Set the size that it takes with --img-size.')}Give probe.wrap the input_size= that "
        "it takes."
    ) from refused


def _says_its_size(network: nn.Module) -> bool:
    return any(
        getattr(network, name, None) is not None for name in ("pretrained_cfg", "default_cfg", "input_size")
    )


def _device_of(module: nn.Module) -> torch.device:
    tensor = next(chain(module.parameters(), module.buffers()), None)
    return torch.device("cpu") if tensor is None else tensor.device


def _size(value: int | Sequence[int], network: nn.Module) -> tuple[int, int, int]:
    numbers = [value, value] if isinstance(value, int) else [int(number) for number in value]
    if len(numbers) == 2:
        numbers = [first_channels(network), *numbers]
    if len(numbers) != 3 or min(numbers) < 1:
        raise UsageError(f"input_size is a side, (H, W) or (C, H, W), not {value}.")
    return numbers[0], numbers[1], numbers[2]


def _normalised(
    framing: Preprocessing, mean: float | Sequence[float] | None, std: float | Sequence[float] | None
) -> Preprocessing:
    channels = framing.input.size[0]
    found = []
    for what, value, own in (("mean", mean, framing.mean), ("std", std, framing.std)):
        default = own if len(own) == channels else own[:1]
        values = default if value is None else (value,) if isinstance(value, int | float) else tuple(value)
        if len(values) not in (1, channels):
            raise UsageError(f"{what} has {len(values)} values, but the network takes {channels} channels.")
        found.append(tuple(map(float, values)) * (channels if len(values) == 1 else 1))
    if not min(found[1]) > 0:
        raise UsageError(f"Each std must be above 0; got {', '.join(map(str, found[1]))}.")
    return replace(framing, mean=found[0], std=found[1])


def _names(classes: Sequence[str] | int | None, count: int, name: str) -> tuple[str, ...] | None:
    if isinstance(classes, int):
        if classes != count:
            raise UsageError(f"{name} has {count} logits, not {classes}.")
        return None
    return None if classes is None else class_names(classes, count, name)
