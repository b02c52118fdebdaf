"""How far a machine goes: what workers gain, how fast images are read, and time and memory of large data.

Run with ``python tests/benchmarks/bench_scale.py [workers|reading|fifty-thousand|photographs]``. Not part of ``make bench``:
the last two take several minutes. Each measurement is a process of its own.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench_growth import generated

SMALL_IMAGES, PHOTOGRAPHS, SIDE = 50_000, 10_000, 500


def noise(count: int, name: str = "zoo:resnet20") -> Any:
    """Return an untrained network and images of noise in uint8."""
    import torch

    import probe

    model, draws = probe.load_model(name, weights="none"), torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, *model.input.size), dtype=torch.uint8, generator=draws)
    return model, probe.images(pixels, n="all")


def attack(jobs: int) -> Callable[[], object]:
    """Return PGD-100 at four epsilons on all held-out digits, resnet20, without checks."""
    import probe

    model, data = probe.load_model("zoo:resnet20"), probe.images("digits", n="all")
    return lambda: probe.adversarial(
        model,
        data,
        eps="0.02,0.05,0.1,0.15",
        attacks="pgd",
        steps=100,
        views=("curve",),
        checks=[],
        jobs=jobs,
    )


def lesions(jobs: int) -> Callable[[], object]:
    """Return all lesions of resnet20's shortcuts on 8,000 images."""
    import probe

    model, data = noise(8_000)
    return lambda: probe.ablate(model, data, remove="shortcut", mode="lesion", jobs=jobs)


def look(jobs: int) -> Callable[[], object]:
    """Return the study of filters of resnet20 on 20,000 images, pictures of 512 steps."""
    import probe

    model, data = noise(20_000)
    return lambda: probe.filters(model, data, steps=512, jobs=jobs)


def fgsm(count: int) -> Callable[[], object]:
    """Return FGSM on ``count`` small images."""
    import probe

    model, data = noise(count, "zoo:lenet")
    return lambda: probe.adversarial(model, data, eps=8 / 255, attacks="fgsm", batch_size=256)


def patches(folder: str) -> Callable[[], object]:
    """Return the strongest patches of the embedded network in a folder of photographs."""
    import probe

    model, data = probe.load_model("efficientnet_lite0"), probe.images(folder, n="all")
    return lambda: probe.filters(model, data, views=("patches",))


STUDIES = {f.__name__: f for f in (attack, lesions, look, fgsm, patches)}


def child(name: str, argument: Any) -> None:
    """Run one study in this process and print its seconds and the peak resident size in MiB."""
    study = STUDIES[name](argument)
    start = time.perf_counter()
    study()
    seconds = time.perf_counter() - start
    print(json.dumps((seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)))


def measured(name: str, argument: Any, threads: int | None = None) -> tuple[float, float]:
    """Return seconds and peak of a study in a new process."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    command = [sys.executable, __file__, "--child", name, json.dumps(argument)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    seconds, peak = json.loads(done.stdout.splitlines()[-1])
    return seconds, peak


def workers() -> None:
    """Print each study's seconds with one thread, all threads, and two processes."""
    for name in ("attack", "lesions", "look"):
        one, both, two = measured(name, 1, 1)[0], measured(name, 1)[0], measured(name, 2)[0]
        print(
            f"{name}: one thread {one:.1f} s, {os.cpu_count()} threads {both:.1f} s, two processes {two:.1f} s: "
            f"{one / two:.2f} × one thread",
            flush=True,
        )


def reading() -> None:
    """Print how many JPEGs of 500 px are read and cropped to 224 px in a second, and how many the network takes."""
    import torch

    import probe

    with tempfile.TemporaryDirectory() as place:
        folder = generated(Path(place) / "images", 400, SIDE)
        model, images = probe.load_model("efficientnet_lite0"), probe.images(str(folder))
        start = time.perf_counter()
        batches = [batch.images for batch in images.batches(model.input, 32)]
        read = time.perf_counter() - start
        start = time.perf_counter()
        for batch in batches:
            model.logits(batch)
        passed = time.perf_counter() - start
    n = sum(map(len, batches))
    print(
        f"{n / read:.0f} JPEGs of {SIDE} px read in a second, {n / passed:.0f} passed through efficientnet_lite0 "
        f"({torch.get_num_threads()} threads)"
    )


def fifty_thousand() -> None:
    """Print seconds and peak memory of FGSM on a tenth of 50,000 small images, and on all of them."""
    for count in (SMALL_IMAGES // 10, SMALL_IMAGES):
        seconds, peak = measured("fgsm", count)
        print(f"fgsm on {count:,} images: {seconds:.0f} s, peak {peak:.0f} MiB", flush=True)


def photographs() -> None:
    """Print seconds and peak memory of the patches of 1,000 and of 10,000 JPEGs of 500 px."""
    with tempfile.TemporaryDirectory() as place:
        for count in (PHOTOGRAPHS // 10, PHOTOGRAPHS):
            folder = generated(Path(place) / str(count), count, SIDE)
            seconds, peak = measured("patches", str(folder))
            print(
                f"patches of {count:,} JPEGs of {SIDE} px: {seconds:.0f} s, peak {peak:.0f} MiB", flush=True
            )


PARTS = {"workers": workers, "reading": reading, "fifty-thousand": fifty_thousand, "photographs": photographs}


def main(names: list[str]) -> None:
    """Measure all, or the parts named."""
    if names and names[0] == "--child":
        child(names[1], json.loads(names[2]))
        return
    for name in names or PARTS:
        PARTS[name]()


if __name__ == "__main__":
    main(sys.argv[1:])
