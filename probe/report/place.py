"""Where a report goes: a new folder with a name that tells what is in it."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from datetime import datetime
from itertools import count
from pathlib import Path

from probe.core.errors import CannotRunError

_LONGEST = 60
_OUTSIDE = re.compile(r"[^A-Za-z0-9._]+")


def report_folder(root: Path, study: str, model: str, data: str, stamp: datetime | str) -> Path:
    """Make and return a new folder such as ``reports/filters-efficientnet_lite0-20261123-214224``.

    An empty ``data`` leaves that part out. Every part is cut down to safe characters; a part that
    loses letters by that gets a short hash so that two names stay two. A name that is taken gets
    ``-2``, ``-3`` … Raises CannotRunError when the folder cannot be made.
    """
    when = stamp.strftime("%Y%m%d-%H%M%S") if isinstance(stamp, datetime) else _safe_stamp(stamp)
    name = "-".join([safe_name(study), safe_name(model), *([safe_name(data)] if data else []), when])
    try:
        root.mkdir(parents=True, exist_ok=True)
        for number in count(1):
            folder = root / (name if number == 1 else f"{name}-{number}")
            try:
                folder.mkdir()
            except FileExistsError:
                continue
            return folder
    except OSError as error:
        raise CannotRunError(
            f"No report folder can be made in {root}: {error.strerror or error}. "
            "Choose another place with --out."
        ) from error
    raise AssertionError("unreachable")


def safe_name(text: str) -> str:
    """Turn any text into letters, digits, dots, hyphens and underscores, at most 60 and never empty."""
    plain = unicodedata.normalize("NFKD", text)
    kept = "".join(sign for sign in plain if not unicodedata.combining(sign))
    slug = _OUTSIDE.sub("-", kept).strip("-.")[:_LONGEST].strip("-.")
    lossy = any(ord(sign) > 127 for sign in kept) or len(kept) > _LONGEST or not slug
    if not lossy:
        return slug
    digest = hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:8]
    return f"{slug[: _LONGEST - 9].rstrip('-.')}-{digest}".lstrip("-")


def _safe_stamp(stamp: str) -> str:
    return re.sub(r"[^0-9A-Za-z-]+", "-", stamp).strip("-")[:40] or "undated"
