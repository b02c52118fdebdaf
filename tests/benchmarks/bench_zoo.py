"""The digits recipe of every zoo family: held-out accuracy and seconds, from random weights, with all threads."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from probe.train.trainer import TrainOptions, train

FAMILIES = (
    "lenet",
    "alexnet",
    "nin",
    "vgg",
    "inception",
    "inception?version=2",
    "inception?version=3",
    "resnet20",
    "resnet20?version=2",
    "resnet?depth=20&block=bottleneck",
    "resnext",
    "densenet",
)


def main() -> None:
    """Print one line for each family."""
    with tempfile.TemporaryDirectory() as folder:
        for number, name in enumerate(FAMILIES):
            started = time.perf_counter()
            options = TrainOptions(out=Path(folder) / f"{number}.safetensors", device="cpu", offline=True)
            done = train(f"zoo:{name}", "digits", options)
            score, seconds = done.record.score, time.perf_counter() - started
            sys.stdout.write(
                f"{name:<34} {score.correct} of {score.n} = {score.percent:>6}  {seconds:5.1f} s\n"
            )
            sys.stdout.flush()


if __name__ == "__main__":
    main()
