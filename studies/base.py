"""The sentences with which every study's methods paragraph begins and ends."""

from __future__ import annotations

import probe
from probe.core.document import DataInfo, ModelInfo

WILSON = (
    'Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", '
    "Journal of the American Statistical Association 22, 1927"
)


def subject(model: ModelInfo, data: DataInfo) -> str:
    """Say which network was studied on which images."""
    channels, height, width = model.input_size
    drawn = f" (of {data.total:,}, a seeded sample)" if data.n < data.total and not data.skipped else ""
    labels = "labelled" if data.labelled else "unlabelled"
    return (
        f"We studied {model.name} ({model.parameters:,} parameters; weights: {model.weights}; input "
        f"{channels}×{height}×{width} with pixels in [0, 1], normalisation inside the network) on {data.n:,} {labels} "
        f"images of {data.name}{drawn}."
    )


def tools(seed: int, torch_version: str) -> str:
    """Say with which software and which seed."""
    return f"Everything was computed with probe {probe.__version__} and PyTorch {torch_version}, seed {seed}."
