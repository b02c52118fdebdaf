"""What the kinds share: what may become of an example, and how a file of Python is imported."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

TAKEN, REFUSED = "taken", "refused with a reason"


class ReadWrongError(Exception):
    """Something was read otherwise than PyTorch reads it, without a word."""


def wrong(what: str, example: object) -> str:
    """Raise ReadWrongError for an example of which something was read wrong."""
    raise ReadWrongError(f"{what} differ: {example}")


def imported(path: Path) -> Any:
    """Return the module of a Python file, imported anew."""
    spec = importlib.util.spec_from_file_location("hunted", path)
    if spec is None or spec.loader is None:
        raise ImportError(path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["hunted"] = module
    spec.loader.exec_module(module)
    return module
