"""The first passes of a network, and what their exceptions mean: an argument, a batch size, a type, a device, a shape, no gradient."""

from __future__ import annotations

import inspect
import re
from dataclasses import replace

import torch
from torch import nn

from probe.core.errors import CannotRunError, ProbeError, UsageError
from probe.core.memory import is_out_of_memory
from probe.core.seeds import scoped
from probe.core.state import kept_buffers, training_mode
from probe.core.usercode import place_of
from probe.models.loaded import LoadedModel

_MESSAGE = 160
_SHAPE = re.compile(
    r"shape|size|mat1|mat2|channels|dimension|expected input|kernel|out of range|out of bounds|padding|broadcast|"
    r"Expected more than 1 value|Expected \d-?D",
    re.IGNORECASE,
)
_DTYPE = re.compile(
    r"scalar type|same dtype|Input type|dtype|not implemented for '(?:Half|Double|Long)'", re.IGNORECASE
)
_DEVICE = re.compile(r"same device|device type|cuda|mps|Expected all tensors", re.IGNORECASE)
_USUAL_BATCHES = (1, 4, 8, 16, 32, 64)
_LARGEST_BATCH = 512


class ShapeError(CannotRunError):
    """The network does not accept images of the given size."""


def explain(network: nn.Module, size: tuple[int, int, int], name: str, error: BaseException) -> ProbeError:
    """Return the error to show for an exception of a network's forward pass on images of ``size`` (C, H, W)."""
    if isinstance(error, ProbeError):
        return error
    message = _message(error)
    detail = describe(error)
    if isinstance(error, SystemExit):
        return CannotRunError(f"{name} ends the program in its forward pass ({detail}): remove that call.")
    if isinstance(error, TypeError) and (missing := _missing_arguments(network)):
        listed = " and ".join(f"'{argument}'" for argument in missing)
        return CannotRunError(
            f"{name} needs {listed} besides the images: forward has to take the images alone. Give the argument a default, "
            f"or wrap the network in a module whose forward(self, x) calls net(x, {missing[0]}=…)."
        )
    shown = "×".join(map(str, size))
    if is_out_of_memory(error):
        return UsageError(
            f"{name} needs more memory than there is for images of {shown} ({message}): choose a smaller input size (--img-size)."
        )
    if isinstance(error, RuntimeError | TypeError) and _DTYPE.search(message):
        return CannotRunError(
            f"{name} mixes number types on float32 images of {shown} ({detail}): convert its inputs and weights to float32."
        )
    if isinstance(error, RuntimeError | AssertionError) and _DEVICE.search(message):
        return CannotRunError(
            f"{name} computes on more than one device ({detail}): create tensors in forward with device=x.device."
        )
    batch = _only_batch(network, size, message)
    if batch is not None:
        return only_batches_of(batch, name, detail)
    if isinstance(
        error, RuntimeError | ValueError | IndexError | AssertionError | TypeError
    ) and _SHAPE.search(message):
        return ShapeError(
            f"{name} does not accept images of {shown} (channels × height × width): {message}. Set the right size with "
            "--img-size."
        )
    return CannotRunError(f"{name} cannot be run on images of {shown}: {detail}.")


def without_failing_gradient(model: LoadedModel) -> LoadedModel:
    """Return the model; where its backward pass fails, with a note and set to answer without gradients in every study."""
    module = model.module
    with scoped(0, "backward"), training_mode(module, False), kept_buffers(module), torch.enable_grad():
        pixels = model.example().requires_grad_()
        try:
            answer = module(pixels)
            if answer.requires_grad:
                torch.autograd.grad(answer.sum(), pixels, allow_unused=True)
        except Exception as error:
            if is_out_of_memory(error):
                return model
            failure = f"{type(error).__name__}: {_message(error)}"
        else:
            return model
    module.differentiable = False
    note = f"The backward pass of this network fails, so it is studied without gradients ({failure})."
    origin = replace(model.provenance, notes=(*model.provenance.notes, note))
    return replace(model, provenance=origin)


def describe(error: BaseException) -> str:
    """Return place, type and message of an exception of a user's network."""
    place, message = place_of(error), _message(error)
    where = f"{place}: " if place else ""
    return f"{where}{type(error).__name__}{f': {message}' if message else ''}"


def only_batches_of(batch: int, name: str, detail: str) -> CannotRunError:
    """Return the error for a network that takes batches of one size alone."""
    return CannotRunError(
        f"{name} takes only batches of {batch} images ({detail}): its forward has the batch size written into it. "
        "Use x.flatten(1) or x.view(len(x), -1) instead; for torch.export, give dynamic_shapes with a dynamic batch dimension."
    )


def _message(error: BaseException) -> str:
    """Return the line of an exception that says what was wrong: the last one where TorchScript's interpreter raised it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    own = lines[-1] if "TorchScript interpreter" in lines[0] else lines[0]
    return own.removeprefix("RuntimeError: ")[:_MESSAGE].rstrip(". ")


def _missing_arguments(network: nn.Module) -> list[str]:
    """Return the names of the arguments without default that forward takes after the images."""
    try:
        parameters = list(inspect.signature(network.forward).parameters.values())
    except (TypeError, ValueError):
        return []
    return [
        parameter.name
        for parameter in parameters[1:]
        if parameter.default is inspect.Parameter.empty
        and parameter.kind in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    ]


def _only_batch(network: nn.Module, size: tuple[int, int, int], message: str) -> int | None:
    """Return the batch size that a network accepts where it does not accept two images; None if there is none."""
    named = [int(number) for number in re.findall(r"\d+", message)]
    device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
    for batch in dict.fromkeys((*named, *_USUAL_BATCHES)):
        if batch == 2 or not 1 <= batch <= _LARGEST_BATCH or batch * size[1] * size[2] > 1 << 24:
            continue
        try:
            with training_mode(network, False), torch.no_grad():
                network(torch.zeros(batch, *size, device=device))
        except Exception:
            continue
        return batch
    return None
