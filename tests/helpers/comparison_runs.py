"""Runs of a study as files, made by hand: what a comparison is given."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from probe.core import stats

EPSILONS = (0.0, 0.01, 0.02, 0.04)


def proportion(name: str, successes: int, n: int, per_image: str = "") -> dict[str, Any]:
    ci = list(stats.wilson(successes, n))
    return {
        "name": name,
        "value": successes / n,
        "n": n,
        "ci": ci,
        "unit": "proportion",
        "higher_is_better": True,
        "per_image": per_image,
    }


def document(results: Sequence[dict[str, Any]], study: str = "adversarial", **more: Any) -> dict[str, Any]:
    made: dict[str, Any] = {
        "schema_version": 1,
        "study": study,
        "title": "",
        "status": "done",
        "created": "2026-01-02T03:04:05+00:00",
        "command": f"probe {study}",
        "config": {"epsilons": list(EPSILONS), "norm": "Linf", "seed": 0},
        "model": {
            "name": "net",
            "source": "net.py:net",
            "weights": "some",
            "sha256": None,
            "parameters": 10,
            "macs": 20,
            "input_size": [3, 8, 8],
            "num_classes": 3,
            "notes": [],
        },
        "data": {"name": "folder", "n": 20, "total": 20, "labelled": True, "skipped": []},
        "environment": {"torch": "2"},
        "seed": 0,
        "headline": [],
        "warnings": [],
        "results": list(results),
        "checks": [],
        "artifacts": [],
        "seconds": 1.0,
        "extra": {},
    }
    for key, value in more.items():
        made[key] = {**made[key], **value} if isinstance(value, dict) else value
    return made


def adversarial(smallest: Sequence[float | None], **more: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A run in which image i is broken by ``smallest[i]`` (0: wrong from the start, None: never)."""
    n = len(smallest)

    def standing(epsilon: float) -> int:
        return sum(size is None or size > epsilon for size in smallest)

    results = [
        proportion("robust_accuracy", standing(0.02), n, "smallest_epsilon > 0.02"),
        proportion("clean_accuracy", standing(0), n, "prediction = label"),
    ]
    results += [
        proportion(f"robust_accuracy@{e:.6g}", standing(e), n, f"smallest_epsilon > {e}") for e in EPSILONS
    ]
    rows = [
        {
            "image": f"{i}.png",
            "index": i,
            "label": i % 3,
            "prediction": i % 3 if size != 0 else (i + 1) % 3,
            "smallest_epsilon": size,
        }
        for i, size in enumerate(smallest)
    ]
    return document(results, **more), rows


def write(folder: Path, made: dict[str, Any], rows: Sequence[dict[str, Any]] | None = None) -> Path:
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps(made))
    if rows is not None:
        (folder / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder
