"""Hunt for defects: generated networks, checkpoints, folders, files and command lines, each against plain PyTorch.

``python tests/hunt/hunt.py --minutes 30 --seed 0`` prints what was tried of each kind, how often it went in or was refused
with a reason, and every example that crashed or was read wrong without a word. It ends with 1 if there is one.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import io
import os
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import FlakyFailure

sys.path.insert(0, str(Path(__file__).parents[1]))

from hunt import kinds

KINDS: dict[str, tuple[st.SearchStrategy[object], Callable[[object, Path], str]]] = {
    "networks": (kinds.networks(), kinds.try_network),
    "checkpoints": (kinds.checkpoints(), kinds.try_checkpoint),
    "class folders": (kinds.folders(), kinds.try_folder),
    "damaged files": (kinds.damages(), kinds.try_damage),
    "command lines": (kinds.command_lines(), kinds.try_command_line),
}
ROUND = 25
"""Examples of one kind before the next kind has its turn."""


def main() -> int:
    """Hunt until the time is over; return 1 if anything was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=list(KINDS), help="only this kind")
    chosen = parser.parse_args()
    counts: dict[str, collections.Counter[str]] = {name: collections.Counter() for name in KINDS}
    found: list[str] = []
    ends, turn = time.monotonic() + 60 * chosen.minutes, 0
    with tempfile.TemporaryDirectory(prefix="probe-hunt-") as place:
        os.environ.setdefault("PROBE_CACHE", str(Path(place) / "cache"))
        os.chdir(place)
        while time.monotonic() < ends:
            for name, (strategy, attempt) in KINDS.items():
                if chosen.kind in (None, name) and time.monotonic() < ends:
                    found += _round(name, strategy, attempt, Path(place), chosen.seed + turn, counts[name])
            turn += 1
    for name, outcomes in counts.items():
        listed = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common())
        print(f"{name:<15} {outcomes.total():>6} tried: {listed or 'none'}")
    for example in dict.fromkeys(found):
        print(f"\nFOUND {example}")
    print(f"\n{len(dict.fromkeys(found))} defects")
    return 1 if found else 0


def _round(
    name: str,
    strategy: st.SearchStrategy[object],
    attempt: Callable[[object, Path], str],
    place: Path,
    number: int,
    outcomes: collections.Counter[str],
) -> list[str]:
    """Try some examples of one kind; return what was found, shrunk to a small example."""

    @seed(number)
    @settings(
        max_examples=ROUND,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    @given(strategy)
    def examples(example: object) -> None:
        with tempfile.TemporaryDirectory(dir=place) as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            outcomes[attempt(example, Path(folder))] += 1

    errors = io.StringIO()
    try:
        with contextlib.redirect_stdout(errors), contextlib.redirect_stderr(errors):
            examples()
    except (Exception, BaseExceptionGroup, FlakyFailure, SystemExit) as error:
        outcomes["FOUND"] += 1
        errors_ = error.exceptions if isinstance(error, BaseExceptionGroup) else [error]
        return [f"{name}, seed {number}: {_told(each)}" for each in errors_]
    return []


def _told(error: BaseException) -> str:
    """Return the exception, the place where it arose, and the example that led to it."""
    frames = traceback.extract_tb(error.__traceback__)
    places = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames[-3:]]
    example = " ".join(" ".join(getattr(error, "__notes__", ())).split())
    return f"{type(error).__name__}: {str(error)[:300]} ({' > '.join(places)}) {example[:500]}"


if __name__ == "__main__":
    sys.exit(main())
