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
from pathlib import Path
from types import ModuleType

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import FlakyFailure

sys.path.insert(0, str(Path(__file__).parents[1]))

from hunt.kinds import KINDS

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
    found: dict[str, str] = {}
    ends, turn = time.monotonic() + 60 * chosen.minutes, 0
    with tempfile.TemporaryDirectory(prefix="probe-hunt-") as place:
        os.environ.setdefault("PROBE_CACHE", str(Path(place) / "cache"))
        os.chdir(place)
        while time.monotonic() < ends:
            for name, kind in KINDS.items():
                if chosen.kind in (None, name) and time.monotonic() < ends:
                    found |= _round(kind, Path(place), chosen.seed + turn, counts[name])
            turn += 1
    for name, outcomes in counts.items():
        listed = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common())
        print(f"{name:<15} {outcomes.total():>6} tried: {listed or 'none'}")
    for example in found.values():
        print(f"\nFOUND {example}")
    print(f"\n{len(found)} defects")
    return 1 if found else 0


def _round(
    kind: ModuleType,
    place: Path,
    number: int,
    outcomes: collections.Counter[str],
) -> dict[str, str]:
    """Try some examples of one kind; return what was found by its place, shrunk to a small example."""

    @seed(number)
    @settings(
        max_examples=ROUND,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    @given(kind.strategy())
    def examples(example: object) -> None:
        with tempfile.TemporaryDirectory(dir=place) as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            outcomes[kind.attempt(example, Path(folder))] += 1

    errors = io.StringIO()
    try:
        with contextlib.redirect_stdout(errors), contextlib.redirect_stderr(errors):
            examples()
    except (Exception, BaseExceptionGroup, FlakyFailure, SystemExit) as error:
        outcomes["FOUND"] += 1
        errors_ = error.exceptions if isinstance(error, BaseExceptionGroup) else [error]
        return {_place(each): f"{kind.NAME}, seed {number}: {_told(each)}" for each in errors_}
    return {}


def _place(error: BaseException) -> str:
    """Return what tells one defect from another: the kind of exception and the lines where it arose."""
    frames = traceback.extract_tb(error.__traceback__)
    places = " > ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames[-3:])
    return f"{type(error).__name__} at {places}"


def _told(error: BaseException) -> str:
    """Return the exception, the place where it arose, and the example that led to it."""
    example = " ".join(" ".join(getattr(error, "__notes__", ())).split())
    return f"{_place(error)}: {str(error)[:300]} {example[:500]}"


if __name__ == "__main__":
    sys.exit(main())
