"""Wrapping a module in memory as a ``LoadedModel``."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain

import torch
from torch import nn

from probe.core.errors import CannotRunError, UsageError
from probe.core.state import fingerprint
from probe.data.images import ImageSet
from probe.data.spec import Interpolation
from probe.models.adapt import adapt, notes_on
from probe.models.first_pass import ShapeError, without_failing_gradient
from probe.models.labels import class_names
from probe.models.loaded import LoadedModel, Provenance, prepare
from probe.models.measure import (
    choose_device,
    choose_memory_format,
    find_size,
    first_channels,
    framing_of,
    measure,
)
from probe.models.preprocessing import PreprocessingOptions
from probe.models.source import SIZE, Preprocessing
from probe.models.weights.reinitialise import ADD_RESET, reinitialise


def wrap(
    module: nn.Module,
    *,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    resize: int | tuple[int, int] | None = None,
    crop: float | str | None = None,
    interpolation: Interpolation | None = None,
    output: str | int | None = None,
    classes: Sequence[str] | int | None = None,
    input_size: int | Sequence[int] | None = None,
    name: str | None = None,
    factory: Callable[[], nn.Module] | None = None,
    device: str | torch.device | None = None,
    domain: str = "unknown",
) -> LoadedModel:
    """Copy a network in memory, ready to be studied; the module itself is not changed.

    ``module`` returns logits (N, classes) for normalised images (N, C, H, W); ``mean`` and ``std`` are the
    normalisation that it was trained with, one value or one per channel, for pixels in [0, 1] (None: from its
    ``pretrained_cfg``, else none, with a note). ``resize``, ``crop`` and ``interpolation``: how pictures of other sizes
    are brought to the input size (see ``PreprocessingOptions``; None: directly, without a crop). ``output``: the key,
    field or position of the logits where the network returns several tensors. ``classes``: their
    names, or their number. ``input_size``: a side, (H, W) or (C, H, W); None: from the network's attributes, else the
    size of the images that are studied.
    ``factory`` builds the same network with random weights, which retraining and the randomisation of attributions
    need; without it, the weights of a copy are drawn again with each module's ``reset_parameters``. ``device``: None
    keeps the module's.

    Later changes to the module do not affect the copy. Raises UsageError for invalid arguments, and CannotRunError
    when the network cannot be copied or run.
    """
    if not isinstance(module, nn.Module):
        raise UsageError(f"probe.wrap takes a torch.nn.Module, not a {type(module).__name__}.")
    title = name or type(module).__name__
    output = None if output is None else str(output)
    network = _private_copy(module, title, output)
    framing, assumed = framing_of(network)
    if input_size is not None:
        framing = _with_size(framing, _size(input_size, network))
    try:
        facts, framing = find_size(network, framing, title)
    except ShapeError as error:
        reason = str(error).removesuffix("Set the right size with --img-size.")
        raise CannotRunError(f"{reason}Pass probe.wrap the right input_size=.") from error
    options = PreprocessingOptions(mean, std, resize, crop, interpolation)
    framing = options.applied(framing)
    chosen, device_text = choose_device("auto" if device is None else str(device))
    if device is None:
        chosen = _device_of(module)
        device_text = f"{chosen} (where the module is)"
    layout = choose_memory_format(facts, chosen)
    origin = f"{type(module).__module__}.{type(module).__qualname__}"
    model = LoadedModel(
        name=title,
        module=prepare(network, framing.mean, framing.std, chosen, layout),
        input=framing.input,
        num_classes=facts.num_classes,
        class_names=_names(classes, facts.num_classes, title),
        domain=domain,
        device=chosen,
        memory_format=layout,
        provenance=Provenance(
            f"{origin} (in memory)",
            "unchanged from memory",
            sha256=fingerprint(network),
            notes=(*notes_on(network), *(() if options.normalises else assumed)),
        ),
        factory=_RandomCopy(network, title) if factory is None else partial(_adapted, factory, title, output),
        macs=facts.macs,
        device_text=device_text,
        assumed=framing.assumed,
    )
    return without_failing_gradient(model)


def _adapted(factory: Callable[[], nn.Module], name: str, output: str | None) -> nn.Module:
    return adapt(factory(), name, output=output)


def wrap_for(module: nn.Module, images: ImageSet) -> LoadedModel:
    """Wrap a module with the input size in its attributes, else with the size of the images."""
    size = images.common_size()
    if size is None or SIZE not in framing_of(module)[0].assumed:
        return wrap(module)
    first = next((sub for sub in module.modules() if isinstance(sub, nn.Conv2d)), None)
    channels = first.in_channels if first is not None else 3 if images.shape is None else images.shape[0]
    model = wrap(module, input_size=(channels, *size))
    return replace(model, assumed=(SIZE, *model.assumed))


def fitted(model: LoadedModel, images: ImageSet) -> LoadedModel:
    """Return the model with the images' size as its input size, if its input size is not known.

    The images are then neither resized nor cropped. Raises ShapeError when the network does not accept them.
    """
    size = images.common_size() if SIZE in model.assumed else None
    if size is None or size == model.input.size[1:]:
        return model
    spec = model.input.resized(size)
    facts = measure(model.module, spec.size, model.name)
    return replace(model, input=spec, num_classes=facts.num_classes, macs=facts.macs)


@dataclass(frozen=True)
class _RandomCopy:
    """Build the network with random weights by drawing those of a copy; can be pickled if the network can."""

    network: nn.Module
    name: str

    def __call__(self) -> nn.Module:
        try:
            return reinitialise(copy.deepcopy(self.network).requires_grad_(True), self.name)
        except CannotRunError as error:
            raise CannotRunError(
                f"{str(error).removesuffix(ADD_RESET)}Pass probe.wrap a factory= that builds the network with random "
                "weights."
            ) from error


def _private_copy(module: nn.Module, name: str, output: str | None) -> nn.Module:
    """Return an adapted copy, without gradients."""
    try:
        # Without gradients, or the parameters of a copied TorchScript module are no leaves.
        with torch.no_grad():
            network = copy.deepcopy(module)
    except Exception as error:
        raise CannotRunError(
            f"{name} cannot be copied ({type(error).__name__}: {error}): remove open files, locks and tensors with a "
            "gradient history from the module, or load it with a factory in a file."
        ) from error
    for parameter in network.parameters():
        parameter.grad = None
    return adapt(network, name, output=output)


def _with_size(framing: Preprocessing, size: tuple[int, int, int]) -> Preprocessing:
    """Return the preprocessing for images of ``size``, also for another number of channels."""
    resized = framing.resized((size[1], size[2]))
    if size[0] == framing.input.size[0]:
        return resized
    spec = replace(resized.input, size=size)
    return replace(resized, input=spec, mean=framing.mean[:1] * size[0], std=framing.std[:1] * size[0])


def _device_of(module: nn.Module) -> torch.device:
    tensor = next(chain(module.parameters(), module.buffers()), None)
    return torch.device("cpu") if tensor is None else tensor.device


def _size(value: int | Sequence[int], network: nn.Module) -> tuple[int, int, int]:
    numbers = [value, value] if isinstance(value, int) else [int(number) for number in value]
    if len(numbers) == 2:
        numbers = [first_channels(network), *numbers]
    if len(numbers) != 3 or min(numbers) < 1:
        raise UsageError(f"input_size must be a side, (H, W) or (C, H, W), not {value}.")
    return numbers[0], numbers[1], numbers[2]


def _names(classes: Sequence[str] | int | None, count: int, name: str) -> tuple[str, ...] | None:
    if isinstance(classes, int):
        if classes != count:
            raise UsageError(f"{name} has {count} logits, not {classes}.")
        return None
    return None if classes is None else class_names(classes, count, name)
