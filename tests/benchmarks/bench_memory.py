"""Peak memory of ``probe filters --views patches`` on 200 and on 2,000 generated photographs.

Run with ``make bench`` or ``python tests/benchmarks/bench_memory.py``. Each run is a process of its own that
reports its largest resident size; the goal is a difference within 10%.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

COUNTS, SIDE, GOAL, SEED = (200, 2000), 256, 0.10, 0


def generate(folder: Path, count: int) -> None:
    """Write ``count`` different images: smooth colours with blocks on them, as JPEG."""
    import numpy as np
    from PIL import Image

    folder.mkdir()
    for number in range(count):
        rng = np.random.default_rng([SEED, number])
        coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        pixels = np.array(coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC))
        for _ in range(4):
            top, left = rng.integers(0, SIDE - 40, 2)
            pixels[top : top + 40, left : left + 40] = rng.integers(0, 256, 3)
        Image.fromarray(pixels).save(folder / f"{number:05}.jpg", quality=90)


def child(folder: Path, model: str) -> int:
    """Run the study in this process and return the peak resident size in bytes."""
    import probe
    from studies.filters import FiltersConfig, run

    count = len(list(folder.iterdir()))
    images = probe.load_images(folder, n=count)
    report = run(probe.load_model(model), images, FiltersConfig(views=("patches",)))
    section = report.sections[0]
    if section.reason or report.data.n != count:
        raise SystemExit(f"the patches view did not run on all images: {section.reason or report.data.n}")
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def measure(folder: Path, model: str) -> int:
    """Return the peak of a new process; this one has not imported torch, whose size a child would inherit."""
    command = [sys.executable, __file__, "--child", str(folder), "--model", model]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return int(done.stdout.split()[-1])


def main() -> None:
    """Print the peaks and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", type=Path)
    parser.add_argument("--model", default="efficientnet_lite0")
    options = parser.parse_args()
    if options.child:
        print(child(options.child, options.model))
        return
    peaks = []
    with tempfile.TemporaryDirectory() as place:
        for count in COUNTS:
            folder = Path(place) / str(count)
            generate(folder, count)
            peaks.append(measure(folder, options.model))
            print(f"{count:6,} images: peak {peaks[-1] / 2**20:7.0f} MiB", flush=True)
    growth = peaks[1] / peaks[0] - 1
    print(
        f"growth {100 * growth:+.1f}% (goal: within {100 * GOAL:.0f}%): {'reached' if growth <= GOAL else 'MISSED'}"
    )


if __name__ == "__main__":
    main()
