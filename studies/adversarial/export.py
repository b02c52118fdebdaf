"""Adversarial images as files (exact as npz, for viewing as PNG), and the records of samples.jsonl."""

from __future__ import annotations

import dataclasses
import io
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from probe.attacks.judge import within
from probe.attacks.losses import adversarial
from probe.core.document import Json, Report, Result, percent
from probe.core.pixels import to_uint8
from probe.report.results import jsonable
from studies.adversarial.outcome import MEASURES, Outcome
from studies.adversarial.workspace import AdversarialWorkspace

FOLDER = "images"
ARRAYS, INDEX = f"{FOLDER}/adversarial.npz", f"{FOLDER}/index.json"
_LONGEST = 60
"""Characters of an image's name in the name of a file."""


@dataclass(frozen=True)
class Saved:
    """The files by their path beside the report; of ``n`` images ``still_adversarial`` are adversarial as saved."""

    form: str
    files: dict[str, bytes]
    n: int
    still_adversarial: int


@dataclass(frozen=True)
class _Rounded:
    """Effect of rounding M images to 8 bit, (M,) each; ``hits`` are still adversarial."""

    predictions: NDArray[Any]
    hits: NDArray[np.bool_]
    sizes: NDArray[Any]
    inside: NDArray[np.bool_]


def save_images(space: AdversarialWorkspace, at_once: int) -> Saved:
    """Return the adversarial images of a run as files: for every broken image the one with the smallest perturbation.

    That is the image that ``worst`` in samples.jsonl describes, found at the smallest epsilon at which the attack
    succeeded; it counts at every epsilon from its own size on. An image that is wrong without any attack has none.
    ``npz`` keeps the float32 values. PNG rounds them to 8 bit, which can leave the ball or undo the attack: every
    rounded image is judged again, ``at_once`` at a time, and images/index.json says which are still adversarial.
    """
    results = space.results
    if results.images is None:
        raise ValueError("the images of this run were not kept")
    broken = results.worst.success(results.epsilon) & results.correct
    places = np.flatnonzero(broken).tolist()
    if space.config.save_images != "npz":
        places = list(space.readable(places))  # the originals are needed to judge rounded images
    images = results.images[places]
    rows = [_row(space, place) for place in places]
    if space.config.save_images == "npz":
        files = {ARRAYS: _arrays(space, rows, images), INDEX: _index(space, rows, {})}
        return Saved("npz", files, len(rows), len(rows))
    rounded = _judge_rounded(space, places, images, at_once)
    files = {}
    for place, row, image in zip(range(len(rows)), rows, images, strict=True):
        row["file"] = (
            f"{FOLDER}/{row['index']:05d}-{_safe(row['image'])}-{space.norm.name}-{row['epsilon']:.4g}.png"
        )
        row["rounded"] = {
            "prediction": int(rounded.predictions[place]),
            "adversarial": bool(rounded.hits[place]),
            "epsilon": float(rounded.sizes[place]),
            "inside": bool(rounded.inside[place]),
        }
        files[row["file"]] = _png(image)
    still, outside = int(rounded.hits.sum()), int((~rounded.inside).sum())
    summary = {"still_adversarial": still, "outside_the_ball": outside}
    return Saved("png", {**files, INDEX: _index(space, rows, summary)}, len(rows), still)


def with_images(report: Report, saved: Saved) -> Report:
    """Return the report with the files, and with what rounding did to them among its findings and results."""
    if saved.form != "png" or saved.n == 0:
        return dataclasses.replace(report, files={**report.files, **saved.files})
    survived = Result.proportion("adversarial_after_rounding", saved.still_adversarial, saved.n)
    line = (
        f"Of {saved.n} adversarial images saved as PNG, {saved.still_adversarial} "
        f"({percent(saved.still_adversarial / saved.n, survived.ci)}) are still adversarial after rounding to 8 bit; "
        "--save-images npz keeps the exact values."
    )
    return dataclasses.replace(
        report,
        files={**report.files, **saved.files},
        headline=(*report.headline, line),
        results=(*report.results, survived),
    )


def _row(space: AdversarialWorkspace, place: int) -> dict[str, Json]:
    """Return the record of one image; ``epsilon`` is the size of its perturbation in the norm of the run."""
    clean, worst = space.results.clean, space.results.worst
    target = int(clean.target[place])
    return {
        "file": ARRAYS,
        "index": int(clean.index[place]),
        "image": space.item_name(place),
        "reference": int(clean.label[place]),
        "target": target if target >= 0 else None,
        "prediction": int(worst.prediction[place]),
        "confidence": float(worst.confidence[place]),
        "epsilon": float(getattr(worst, space.norm.name.lower())[place]),
    }


def _judge_rounded(
    space: AdversarialWorkspace, places: list[int], images: NDArray[Any], at_once: int
) -> _Rounded:
    """Round images (M, C, H, W) to 8 bit and judge them again."""
    predictions, hits, sizes, inside = [], [], [], []
    device = space.model.device
    for start in range(0, len(places), at_once):
        part = places[start : start + at_once]
        values = np.rint(images[start : start + at_once].astype(np.float64) * 255) / 255
        rounded = torch.from_numpy(values.astype(np.float32)).to(
            device, memory_format=space.model.memory_format
        )
        origin: Tensor = space.pixels(part)
        logits = space.attacked.verdict(rounded)
        predictions.append(logits.argmax(1).cpu().numpy())
        hits.append(adversarial(logits, space.labels(part), space.targets(part)).cpu().numpy())
        sizes.append(space.norm.size(rounded - origin).cpu().numpy())
        inside.append(within(origin, rounded, space.norm, space.epsilon).cpu().numpy())
    empty = [np.empty(0, dtype=bool)]
    return _Rounded(*(np.concatenate(column or empty) for column in (predictions, hits, sizes, inside)))


def _arrays(space: AdversarialWorkspace, rows: list[dict[str, Json]], images: NDArray[Any]) -> bytes:
    """Return the npz: images (M, C, H, W) float32 in [0, 1], and the fields of ``_row``; target −1 means none."""
    columns: dict[str, Any] = {
        name: np.array([row[key] if row[key] is not None else -1 for row in rows])
        for name, key in (
            ("indices", "index"),
            ("labels", "reference"),
            ("targets", "target"),
            ("predictions", "prediction"),
            ("confidences", "confidence"),
            ("epsilons", "epsilon"),
        )
    }
    names = np.array([row["image"] for row in rows], dtype=str)
    file = io.BytesIO()
    np.savez(file, images=images, names=names, norm=np.array(space.norm.name), **columns)
    return file.getvalue()


def _index(space: AdversarialWorkspace, rows: list[dict[str, Json]], summary: dict[str, Json]) -> bytes:
    document = {
        "norm": space.norm.name,
        "epsilon": space.epsilon,
        "form": space.config.save_images,
        "n": len(rows),
        **summary,
        "images": rows,
    }
    text = json.dumps(jsonable(document), ensure_ascii=False, allow_nan=False, indent=2)
    return f"{text}\n".encode()


def _png(image: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(to_uint8(image)).save(file, "PNG")
    return file.getvalue()


def _safe(name: str) -> str:
    """Return a name that works in any file system: ASCII letters, digits, ``_``, ``-`` and ``.``."""
    stem, dot, ending = name.rpartition(".")
    known = dot and ending.lower() in (
        "jpg",
        "jpeg",
        "png",
        "webp",
        "bmp",
        "gif",
        "tif",
        "tiff",
        "ppm",
        "pgm",
    )
    text = re.sub(r"[^A-Za-z0-9_.-]+", "_", stem if known else name)
    return text[-_LONGEST:].strip("._-") or "image"


def samples(space: AdversarialWorkspace) -> Iterator[dict[str, Json]]:
    """Yield one record for each image: clean prediction, and outcomes of each attack and the worst case."""
    results, labelled = space.results, space.images.labelled
    clean, epsilons = results.clean, results.epsilons
    # Attacks at fixed epsilons stop at the reported one; only the worst case goes on for the curve.
    limits = {attack.text: results.epsilon if attack.fixed else max(epsilons) for attack in space.attacks}
    for place in range(results.n):
        label, target = int(clean.label[place]), int(clean.target[place])
        yield {
            "study": "adversarial",
            "index": int(clean.index[place]),
            "image": space.item_name(place),
            "label": label if labelled else None,
            "reference": label,
            "target": target if target >= 0 else None,
            "prediction": int(clean.prediction[place]),
            "confidence": float(clean.confidence[place]),
            "norm": space.norm.name,
            "epsilon": results.epsilon,
            "epsilons": list(epsilons),
            "smallest_epsilon": float(results.worst.smallest[place]),
            "worst": _outcome(results.worst, place, epsilons, max(epsilons)),
            "attacks": {
                name: _outcome(outcome, place, epsilons, limits[name])
                for name, outcome in results.attacks.items()
            },
        }


def _outcome(outcome: Outcome, place: int, epsilons: Sequence[float], limit: float) -> dict[str, Json]:
    """Return the outcome of one attack on one image; ``limit`` is the largest epsilon at which it was tried."""
    won = [bool(outcome.success(epsilon)[place]) for epsilon in epsilons]
    prediction = int(outcome.prediction[place])
    return {
        "success": [
            hit if hit or epsilon <= limit else None for hit, epsilon in zip(won, epsilons, strict=True)
        ],
        "smallest_epsilon": float(outcome.smallest[place]),
        "prediction": prediction if prediction >= 0 else None,
        **{name: float(getattr(outcome, name)[place]) for name in MEASURES},
    }
