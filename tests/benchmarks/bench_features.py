"""Feature visualisation of 16 channels, 128 pixels, 64 steps: batched and cut, against one channel at a time.

Run with ``make bench`` or ``python tests/benchmarks/bench_features.py``. The score of a picture is the mean of its
channel over the layer's own output (after its activation), float32, without transformations. It is taken
twice for both sides: on the picture as it is (128 pixels, the size asked for), and upsampled to 224 pixels,
which is what the other side optimises.

Then the default and MACO, each made at 128 and at 224 pixels, with the magnitude 1 / frequency. Where the library horama can be
imported (``pip install --target FOLDER --no-deps horama einops``, ``PYTHONPATH=FOLDER``) its MACO makes the first four channels.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from ceiling import told
from device import DEVICE, called, wait
from horama_way import installed, phases_of_horama
from lucent_way import visualise
from networks import lite0, resnet18
from torch import Tensor

from probe.core.allocator import kept_pages
from probe.graph.edit.fold import folded
from probe.graph.edit.input_gradient import with_quick_gradients
from probe.graph.edit.truncate import truncate
from probe.graph.trace.trace import trace
from probe.models.loaded import PixelModel
from studies.filters.optimise import (
    Channel,
    FourierBasis,
    Parametrisation,
    PictureRecipe,
    PictureSubject,
    power_law,
    render,
)
from studies.filters.optimise.maco import PHASE_RATE
from studies.filters.optimise.subjects import half_helps

SIZE, STEPS, CHANNELS, SEED = 128, 64, tuple(range(16)), 0
LARGE, FEW = 224, 4


@dataclass(frozen=True)
class Side:
    """Seconds per channel and the two scores of each picture."""

    seconds: float
    at_size: Tensor
    at_224: Tensor
    of_ceiling: str


def ours(model: PixelModel, layer: str, size: int = SIZE, maco: bool = False) -> Tensor:
    """Make all pictures the way the features view does, cutting and folding included."""
    example = torch.full((1, 3, 224, 224), 0.5, device=DEVICE)
    features = truncate(trace(model, example), f"network.{layer}", example, before_activation=True)
    fast = with_quick_gradients(folded(features))
    subject = PictureSubject(features, layer, fast, DEVICE, torch.channels_last)
    recipe = PictureRecipe(STEPS, half=half_helps(fast, DEVICE))
    if maco:
        law = power_law(Parametrisation(FourierBasis(size, size)))
        recipe = replace(recipe, rate=PHASE_RATE, magnitude=law)
    return render(
        subject, [Channel(channel) for channel in CHANNELS], (size, size), recipe, seed=SEED
    ).pictures


def theirs(model: PixelModel, layer: str) -> Tensor:
    """Make one picture after the other, the whole network each time."""
    return torch.stack(
        [visualise(model.network, model.normalise, layer, c, SIZE, STEPS, SEED + c) for c in CHANNELS]
    )


def measure(
    make: Callable[[PixelModel, str], Tensor],
    build: Callable[[], PixelModel],
    layer: str,
    channels_last: bool,
) -> Side:
    """Time one side on a network of its own and score its pictures."""
    model = build().to(
        device=DEVICE, memory_format=torch.channels_last if channels_last else torch.contiguous_format
    )
    make_warm(model)
    with kept_pages() if make is ours else nullcontext():
        start = time.perf_counter()
        pictures = make(model, layer)
        wait()
        seconds = time.perf_counter() - start
        of_ceiling = told(lambda: make(model, layer), seconds) if make is ours else ""
    upsampled = F.interpolate(pictures, (224, 224), mode="bilinear", align_corners=True)
    each = seconds / len(CHANNELS)
    return Side(each, score(model, layer, pictures), score(model, layer, upsampled), of_ceiling)


def make_warm(model: PixelModel) -> None:
    """Run the network once, so that neither side pays for torch's first call."""
    with torch.no_grad():
        model(torch.zeros(1, 3, 224, 224, device=DEVICE))


def score(model: PixelModel, layer: str, pictures: Tensor) -> Tensor:
    """Return the mean of channel i over picture i, (N,); of fewer pictures these are of the first channels."""
    seen: list[Tensor] = []
    handle = model.network.get_submodule(layer).register_forward_hook(
        lambda _m, _a, out: seen.append(out.clone())
    )
    with torch.no_grad():
        model(pictures)
    handle.remove()
    return torch.stack([seen[0][i, channel].mean() for i, channel in enumerate(CHANNELS[: len(pictures)])])


def magnitudes(name: str, build: Callable[[], PixelModel], layer: str) -> None:
    """Print the default and MACO, and the peer's MACO, at both sizes."""
    model = build().to(device=DEVICE, memory_format=torch.channels_last)
    make_warm(model)
    print(
        f"{name}: the default and MACO, {STEPS} steps, {called()}; mean score of {len(CHANNELS)} (first {FEW}) channels"
    )
    print(f"  {'':28}{'s / channel':>12}{'at its size':>22}{'at 224 px':>22}")
    for size in (SIZE, LARGE):
        for maco in (False, True):
            with kept_pages():
                start = time.perf_counter()
                pictures = ours(model, layer, size, maco)
                wait()
                seconds = (time.perf_counter() - start) / len(CHANNELS)
            scored(f"{'MACO' if maco else 'default'}, {size} px", model, layer, pictures, seconds)
    if not installed():
        print("  horama is not installed")
        return
    start = time.perf_counter()
    peer = torch.stack([phases_of_horama(model, layer, c, LARGE, STEPS, SEED + c) for c in CHANNELS[:FEW]])
    wait()
    scored(f"horama's MACO, {LARGE} px", model, layer, peer, (time.perf_counter() - start) / FEW)


def scored(name: str, model: PixelModel, layer: str, pictures: Tensor, seconds: float) -> None:
    """Print the scores of all pictures, and of the first few, as they are and at 224 pixels."""
    large = F.interpolate(pictures, (LARGE, LARGE), mode="bilinear", align_corners=True)
    cells = []
    for seen in (pictures, large):
        values = score(model, layer, seen)
        cells.append(f"{values.mean():.3f} ({values[:FEW].mean():.3f})")
    print(f"  {name:28}{seconds:12.3f}{cells[0]:>22}{cells[1]:>22}")


def report(name: str, fast: Side, slow: Side) -> None:
    """Print one network's rows."""
    print(f"{name}: {len(CHANNELS)} channels, {SIZE} px, {STEPS} steps, {called()}")
    print(f"  {'':28}{'probe':>12}{'lucent way':>12}")
    print(f"  {'seconds per channel':28}{fast.seconds:12.3f}{slow.seconds:12.3f}")
    print(f"  {'mean score at 128 px':28}{fast.at_size.mean():12.3f}{slow.at_size.mean():12.3f}")
    print(f"  {'mean score upsampled to 224':28}{fast.at_224.mean():12.3f}{slow.at_224.mean():12.3f}")
    better = int((fast.at_size >= slow.at_size).sum())
    times = slow.seconds / fast.seconds
    print(f"  {times:.1f} times faster; score no lower on {better} of {len(CHANNELS)} channels at 128 px")
    print(f"  {fast.of_ceiling}")


def main(names: Sequence[str]) -> None:
    """Measure both networks, or those named."""
    cases = {"resnet18 layer2": (resnet18, "layer2"), "efficientnet_lite0 blocks.3": (lite0, "blocks.3")}
    for name, (build, layer) in cases.items():
        if not names or name.split()[0] in names:
            slow = measure(theirs, build, layer, False)
            report(name, measure(ours, build, layer, True), slow)
            magnitudes(name, build, layer)


if __name__ == "__main__":
    main(sys.argv[1:])
