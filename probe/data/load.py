"""From the words that a user types to an ``ImageSet``."""

from __future__ import annotations

import difflib
import os
from dataclasses import replace
from pathlib import Path

from probe.core.errors import UsageError
from probe.core.progress import SILENT, Progress
from probe.data.images import ImageSet, shown
from probe.data.source import FOLDER, IMAGE, SOURCES, Request, data_names

MAX_IMAGES = 1000
"""How many images are taken, at most, when no number is given."""


def load_images(
    name: str | os.PathLike[str],
    *,
    n: int | None = None,
    seed: int = 0,
    offline: bool = False,
    progress: Progress = SILENT,
) -> ImageSet:
    """Return the images called ``name``: a data set of the registry, a folder, or one image file.

    A data set's name wins over a folder called the same (``./digits`` is the folder). ``n`` images are drawn
    by ``seed``, stratified when they are labelled; None takes all of them, but ``MAX_IMAGES`` at most.
    Whenever some are left out, the set's ``source`` says so and ``info`` gives the total. ``offline``
    forbids downloads. Raises UsageError for a name or path that does not exist, with the nearest ones that
    do, and CannotRunError when a source has no images to give.
    """
    if n is not None and n < 1:
        raise UsageError(f"The number of images must be at least 1; got {n}.")
    source, path = _resolve(os.fspath(name))
    everything = SOURCES.get(source)(Request(path, offline, progress))
    limit = MAX_IMAGES if n is None else n
    if len(everything) <= limit:
        return everything
    how = "stratified by class" if everything.labelled else "at random"
    taken = f"{limit:,} of {len(everything):,} images drawn {how}, seed {seed}"
    return replace(everything.sample(limit, seed), source=f"{everything.source}; {taken}")


def _resolve(name: str) -> tuple[str, Path | None]:
    """Return the source for ``name``, and the path when it is one."""
    if name in data_names():
        return name, None
    # os.path, not Path's methods: these raise for some names that cannot exist, such as very long ones.
    path = Path(os.path.expanduser(name))
    if name and os.path.isdir(path):
        return FOLDER, path
    if name and os.path.isfile(path):
        return IMAGE, path
    if name and os.path.exists(path):
        raise UsageError(f"'{shown(name)}' is neither a folder nor a regular file. Give one of these.")
    raise UsageError(
        f"There is no data set, folder or image '{shown(name)}'.{_nearest(name, path)} "
        f"Known data sets: {', '.join(data_names())}."
    )


def _nearest(name: str, path: Path) -> str:
    """Return the question whether the user meant something that exists, or nothing."""
    near = difflib.get_close_matches(name, data_names(), n=2)
    try:
        beside = sorted(os.listdir(path.parent))
    except (OSError, ValueError):
        beside = []
    near += [str(path.parent / entry) for entry in difflib.get_close_matches(path.name, beside, n=2)]
    return f" Did you mean {' or '.join(repr(shown(one)) for one in near)}?" if near else ""
