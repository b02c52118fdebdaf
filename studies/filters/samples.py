"""What the filters study says about each image, for samples.jsonl."""

from __future__ import annotations

from collections.abc import Iterator

from probe.core.report import Json
from probe.data.images import ImageSet
from studies.filters.observe import Observations


def samples(seen: Observations, images: ImageSet) -> Iterator[dict[str, Json]]:
    """Yield one record an image, in the order of the set: label, prediction, confidence, whether it is right."""
    rows = zip(
        seen.indices.tolist(),
        seen.labels.tolist(),
        seen.predictions.tolist(),
        seen.confidences.tolist(),
        strict=True,
    )
    for index, label, prediction, confidence in rows:
        yield {
            "study": "filters",
            "index": index,
            "image": images.item_name(index),
            "label": label if label >= 0 else None,
            "prediction": prediction,
            "confidence": confidence,
            "right": prediction == label if label >= 0 else None,
        }
