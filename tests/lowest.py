"""Print the oldest versions that pyproject.toml allows, as pins for pip: of what probe needs, and of what runs the tests."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

_TESTING = re.compile(r"pytest|hypothesis|jsonschema|pandas|zennit|distributed")


def pins() -> list[str]:
    """Return a pin for every lower bound; where it names no patch, the oldest minor version with its patches."""
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))[
        "project"
    ]
    wanted = [
        *project["dependencies"],
        *filter(_TESTING.match, project["optional-dependencies"]["dev"]),
    ]
    found = []
    for text in wanted:
        name, mark, version = text.partition(">=")
        if mark:
            found.append(f"{name}=={version}" if version.count(".") > 1 else f"{name}~={version}.0")
    return found


if __name__ == "__main__":
    print("\n".join(pins()))
