"""Class folders: a label is the one of that name, of that number, or of that order."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from PIL import Image

from hunt.kinds.common import REFUSED, TAKEN, wrong
from hunt.kinds.networks import Net
from probe.core.errors import ProbeError
from probe.models.pair import load_both

NAME = "class folders"

NAMES = st.sampled_from(
    [
        "cat",
        "dog",
        "toad",
        "Great White",
        "n01440764",
        "n02102040",
        "0",
        "1",
        "2",
        "10",
        "01",
        "train",
        "val",
        "__MACOSX",
    ]
)


@dataclass(frozen=True)
class Classes:
    """Class folders, and what the network says about its classes."""

    folders: tuple[str, ...]
    known: tuple[str, ...]
    count: int


def strategy() -> st.SearchStrategy[Classes]:
    """Return the strategy of class folders."""
    return st.builds(
        Classes,
        folders=st.lists(NAMES, min_size=1, max_size=5, unique=True).map(tuple),
        known=st.lists(NAMES, max_size=5, unique=True).map(tuple),
        count=st.integers(2, 5),
    )


def attempt(classes: Any, folder: Path) -> str:
    """Read class folders for a network; a label must be the one of that name, of that number, or of that order."""
    data = folder / "data"
    for name in classes.folders:
        (data / name).mkdir(parents=True)
        Image.new("L", (8, 8), 90).save(data / name / "x.png")
    known = classes.known if len(classes.known) > 1 else ()
    count = len(known) or classes.count
    (folder / "net.py").write_text(Net(1, 8, count, "z", "none", True, False, False, "").source)
    try:
        _, images = load_both(
            f"{folder}/net.py:net", str(data), labels=list(known) or None, offline=True, device="cpu"
        )
    except ProbeError:
        return REFUSED
    used = [name for name in sorted(classes.folders) if name != "__MACOSX"]
    for index in range(len(images)):
        name, label = images.item_name(index).partition("/")[0], images.label(index)
        rules = {
            used.index(name) if len(used) == count else None,
            known.index(name) if name in known else None,
        }
        if name.isdigit():
            rules |= {int(name), int(name) - 1 if images.cautions else None}
        if label not in rules - {None}:
            return wrong("the labels", (classes, name, label))
        if name in known and label != known.index(name):
            return wrong("the labels of known names", (classes, name, label))
    return TAKEN
