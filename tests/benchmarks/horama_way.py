"""MACO as the library horama makes it, where it is installed; it is no dependency of this repository.

Its magnitudes of ImageNet come from the internet, so that it gets 1 / frequency here, which it scales itself. A picture of the network's
own size cannot be looked at in quarters, as its default of 1,280 pixels is: windows are 0.7 to 1 of the sides, as ours. All
else is its default: six windows a step, NAdam with a rate of 1, noise.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import tempfile

import numpy as np
import torch
from device import DEVICE
from torch import Tensor

from probe.core import seeds
from probe.models.loaded import PixelModel

WINDOWS = (0.4, 0.7)
"""Its windows are the second number and up to the difference larger: 0.7 to 1."""


def installed() -> bool:
    """Tell whether horama and what it imports can be found."""
    return all(importlib.util.find_spec(name) is not None for name in ("horama", "einops"))


def phases_of_horama(model: PixelModel, layer: str, channel: int, size: int, steps: int, seed: int) -> Tensor:
    """Return one picture (3, size, size) in [0, 1] for one channel."""
    from horama import maco  # type: ignore[import-not-found]

    outputs: list[Tensor] = []
    handle = model.network.get_submodule(layer).register_forward_hook(lambda _m, _a, out: outputs.append(out))

    def objective(images: Tensor) -> Tensor:
        outputs.clear()
        model(images)
        return outputs[0][:, channel].mean()

    rows, columns = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :]
    law = 1 / np.maximum(np.hypot(rows, columns), 1 / size)
    try:
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder), seeds.scoped(seed, "horama"):
            np.save("spectrum_decorrelated.npy", np.repeat(law[None], 3, 0).astype(np.float32))
            with contextlib.redirect_stderr(io.StringIO()):
                picture, _ = maco(
                    objective,
                    total_steps=steps,
                    image_size=size,
                    model_input_size=size,
                    noise=0.01,  # of a range of 1, as 0.05 of its range of 5
                    values_range=(0, 1),
                    box_size=WINDOWS,
                    device=str(DEVICE),
                )
    finally:
        handle.remove()
    found: Tensor = picture.detach().clamp(0, 1).to(torch.float32)
    return found
