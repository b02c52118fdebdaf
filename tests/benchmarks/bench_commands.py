"""Wall time and peak memory of the default commands as a user gives them, in a process of their own.

Run with ``make bench`` or ``python tests/benchmarks/bench_commands.py``. What a command needs once, such as weights trained
here, is there before it is timed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

PROGRAM = (sys.executable, "-m", "probe")
COMMANDS = ("filters", "adversarial --eps 0.03", "ablate --remove shortcut", "filters --model resnet18")
STARTS = 5


def timed(command: Sequence[str], folder: str) -> tuple[float, float]:
    """Return the seconds of a command and its largest resident size in MiB."""
    start = time.perf_counter()
    done = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(done.pid, 0)
    seconds = time.perf_counter() - start
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    return seconds, usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)


def main() -> None:
    """Print a line for each command."""
    with tempfile.TemporaryDirectory() as folder:
        bare = min(timed((sys.executable, "-c", "pass"), folder)[0] for _ in range(STARTS))
        helped = min(timed((*PROGRAM, "--help"), folder)[0] for _ in range(STARTS))
        print(f"probe --help: {helped:.2f} s, python -c pass: {bare:.2f} s")
        timed(
            (*PROGRAM, "ablate", "--mode", "lesion", "-n", "8"), folder
        )  # trains the weights where there are none
        for command in COMMANDS:
            seconds, peak = timed((*PROGRAM, *command.split()), folder)
            print(f"probe {command}: {seconds:.1f} s, peak {peak:.0f} MiB", flush=True)


if __name__ == "__main__":
    main()
