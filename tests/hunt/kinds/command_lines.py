"""Command lines, sensible or not: they end with a documented exit code and never with a bug."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from hunt.kinds.common import REFUSED, TAKEN
from probe.cli import main as cli

NAME = "command lines"

VALUES = [
    "", "0", "-1", "1", "2", "0.03", "1e9", "nan", "inf", "abc", "8/255", "1/0", "0:1:3", "none", "auto", "conv", "pgd", "apgd-ce",
    "pgd?steps=2", "pgd?steps=x", "digits", "nix", "a,b", ",", "weights", "worst", "L2", "L7", "3,3", "cat", "[]", "{}", "../x", "é",
]  # fmt: skip
FREE = [
    "--eps", "--norm", "--attack", "--target", "--views", "--checks", "--images", "--layers", "--channels", "--img-size", "--mean",
    "--std", "--resize", "--crop", "--interpolation", "--labels", "--class-map", "--labels-csv", "--output", "-n", "-b", "--seed",
    "--steps", "--restarts", "--remove", "--sites", "--max-sites", "--draws", "--mode", "--fail-under", "--weights", "--device",
    "--swap", "--figures", "--format",
]  # fmt: skip
COMMANDS = (
    "filters",
    "adversarial",
    "ablate",
    "anatomy",
    "structures",
    "models",
    "attacks",
    "doctor",
    "compare",
    "schema",
)
FAST = {
    "filters": ["--views", "weights", "-n", "4"],
    "adversarial": ["--views", "attacks", "--no-checks", "-n", "4", "--attack", "fgsm"],
    "ablate": ["--mode", "lesion", "-n", "4", "--remove", "relu", "--max-sites", "2", "--draws", "1"],
    "doctor": ["--steps", "2", "--no-sweep", "-n", "16"],
}
_SLOW = {"--steps", "--restarts", "--device"}


def strategy() -> st.SearchStrategy[tuple[str, tuple[tuple[str, str], ...]]]:
    """Return the strategy of command lines: a command and options with values, sensible or not."""
    pairs = st.lists(st.tuples(st.sampled_from(FREE), st.sampled_from(VALUES)), max_size=3).map(tuple)
    return st.tuples(st.sampled_from(COMMANDS), pairs)


def attempt(line: Any, folder: Path) -> str:
    """Run a command line; it must end with a documented exit code and never with a bug."""
    command, pairs = line
    words = [command]
    if command in FAST or command in ("anatomy", "structures"):
        words += ["-m", "zoo:lenet", "--weights", "none", "--offline", "-q"]
    if command in FAST:
        words += ["-d", "digits", "--out", str(folder / "out"), *FAST[command]]
    words += [
        word for name, value in pairs for word in (name, value) if not (name in _SLOW and value == "1e9")
    ]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), contextlib.chdir(folder):
        code = cli.run(words)
    said = err.getvalue()
    if code not in (0, 1, 2, 3, 4, 130) or "bug in probe" in said or "Traceback" in said or "defect" in said:
        raise AssertionError(f"probe {' '.join(map(repr, words))} → {code}: {said[-400:]}")
    return TAKEN if code in (0, 1, 4) else REFUSED
