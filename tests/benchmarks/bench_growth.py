"""Time and peak memory of the studies against images, epsilons, sites and channels: at most linear, and flat.

Run with ``make bench`` or ``python tests/benchmarks/bench_growth.py [images|epsilons|sites|channels|photographs]``. Each
measurement is a process of its own that reports the study's seconds and its largest resident size.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

SIDE, SEED = 256, 0

AMOUNTS: dict[str, Sequence[int]] = {
    "images": (45, 90, 180, 359),
    "epsilons": (2, 4, 8, 16),
    "sites": (7, 14, 27),
    "channels": (4, 8, 16, 32),
    "photographs": (200, 2000),
}
"""What grows, and how far."""


def noise(count: int) -> Any:
    """Return images of noise for a 32 px network."""
    import torch

    import probe

    pixels = torch.rand((count, 3, 32, 32), generator=torch.Generator().manual_seed(SEED))
    return probe.images(pixels)


def untrained(name: str) -> Any:
    """Return a network of the zoo with random weights."""
    import probe

    return probe.load_model(name, weights="none")


def attack(images: int, epsilons: int) -> Callable[[], object]:
    """Return PGD-10 on ``images`` of the 359 held-out digits at ``epsilons`` epsilons up to 0.4, without checks."""
    import probe

    model, data = probe.load_model("zoo:resnet20"), probe.images("digits", n=images)
    radii = [0.4 * (number + 1) / epsilons for number in range(epsilons)]
    return lambda: probe.adversarial(
        model, data, eps=radii, attacks="pgd?steps=10", views=("curve",), checks=[]
    )


def lesions(sites: int) -> Callable[[], object]:
    """Return the lesions of the first ``sites`` shortcuts of a 56-layer network on 200 images."""
    import probe
    from probe.graph.edit.cut import find_sites, prepare
    from probe.graph.edit.structure import get_structure

    model, data = untrained("zoo:resnet56"), noise(200)
    names = [
        site.name for site in find_sites(prepare(model.network, model.example(2)), get_structure("shortcut"))
    ]
    return lambda: probe.ablate(model, data, remove="shortcut", mode="lesion", sites=names[:sites])


def pictures(channels: int) -> Callable[[], object]:
    """Return feature pictures of ``channels`` channels of one layer."""
    import probe

    model, data = untrained("zoo:resnet20"), noise(8)
    layer = [name for name, _ in model.network.named_modules() if name.count(".") == 1][-1]
    return lambda: probe.filters(
        model, data, views=("features",), layers=layer, channels=list(range(channels)), steps=32
    )


def photographs(folder: str) -> Callable[[], object]:
    """Return the strongest patches of the embedded network in a folder of photographs."""
    import probe

    model, data = probe.load_model("efficientnet_lite0"), probe.images(folder, n=len(os.listdir(folder)))
    return lambda: probe.filters(model, data, views=("patches",))


CASES: dict[str, Callable[[int, Path], tuple[Callable[..., Callable[[], object]], dict[str, Any]]]] = {
    "images": lambda amount, _: (attack, {"images": amount, "epsilons": 4}),
    "epsilons": lambda amount, _: (attack, {"images": 100, "epsilons": amount}),
    "sites": lambda amount, _: (lesions, {"sites": amount}),
    "channels": lambda amount, _: (pictures, {"channels": amount}),
    "photographs": lambda amount, place: (
        photographs,
        {"folder": str(generated(place / str(amount), amount))},
    ),
}


def generated(folder: Path, count: int, side: int = SIDE) -> Path:
    """Write ``count`` different images, smooth colours with blocks on them, as JPEG; return the folder."""
    import numpy as np
    from PIL import Image

    folder.mkdir()
    for number in range(count):
        rng = np.random.default_rng([SEED, number])
        coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        pixels = np.array(coarse.resize((side, side), Image.Resampling.BICUBIC))
        for _ in range(4):
            top, left = rng.integers(0, side - 40, 2)
            pixels[top : top + 40, left : left + 40] = rng.integers(0, 256, 3)
        Image.fromarray(pixels).save(folder / f"{number:05}.jpg", quality=90)
    return folder


def child(what: str, options: dict[str, Any]) -> tuple[float, float]:
    """Run one study in this process; return its seconds and the peak resident size in MiB."""
    study = {f.__name__: f for f in (attack, lesions, pictures, photographs)}[what](**options)
    start = time.perf_counter()
    report: Any = study()
    seconds = time.perf_counter() - start
    reasons = [section.reason for section in report.sections if section.reason]
    if reasons:
        raise SystemExit(f"the study was not made: {reasons[0]}")
    unit = 2**20 if sys.platform == "darwin" else 1024
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def measure(what: str, options: dict[str, Any]) -> tuple[float, float]:
    """Return seconds and peak of a new process; this one has not imported torch, whose size a child would inherit."""
    command = [sys.executable, __file__, "--child", what, json.dumps(options)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    seconds, peak = json.loads(done.stdout.splitlines()[-1])
    return seconds, peak


def main(names: Sequence[str]) -> None:
    """Print seconds, peaks, and how both grow from the least amount to the largest."""
    if names and names[0] == "--child":
        print(json.dumps(child(names[1], json.loads(names[2]))))
        return
    with tempfile.TemporaryDirectory() as place:
        for name in names or AMOUNTS:
            rows = []
            for amount in AMOUNTS[name]:
                study, options = CASES[name](amount, Path(place))
                rows.append(measure(study.__name__, options))
                print(f"{amount:6,} {name:12} {rows[-1][0]:7.1f} s   peak {rows[-1][1]:6.0f} MiB", flush=True)
            times = AMOUNTS[name][-1] / AMOUNTS[name][0]
            slower, larger = rows[-1][0] / rows[0][0], rows[-1][1] / rows[0][1]
            verdict = "linear or better" if slower <= times else "MORE THAN LINEAR"
            print(f"{times:6.1f} × {name}: {slower:.1f} × time ({verdict}), {larger:.2f} × memory")


if __name__ == "__main__":
    main(sys.argv[1:])
