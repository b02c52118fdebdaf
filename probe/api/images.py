"""Common corruptions as a function of plain tensors."""

from __future__ import annotations

from torch import Tensor

from probe.core.errors import UsageError
from probe.core.seeds import generator
from probe.data.corruptions import CORRUPTIONS, check_severity, chosen


def corrupt(images: Tensor, corruption: str, *, severity: int = 3, seed: int = 0) -> Tensor:
    """Return corrupted copies of images: pixels (N, 1 or 3, H, W) in [0, 1], multiples of 1/255.

    ``corruption`` is one of the kinds of ImageNet-C, such as ``fog``, with the parameters published for 224 or for 32 pixels,
    whichever is nearer (Hendrycks & Dietterich 2019). ``severity`` is 1 to 5. The i-th image depends on ``seed`` and i only. Raises
    UsageError for another kind, severity or shape, NotApplicableError where the kind needs colours and there are none.
    """
    names = chosen((corruption,))
    check_severity(severity)
    if len(names) != 1:
        raise UsageError("Name one kind of corruption.")
    try:
        draws = [generator(seed, "corruption", names[0], severity, index) for index in range(len(images))]
        return CORRUPTIONS.get(names[0])().apply(images, severity, draws)
    except ValueError as error:
        raise UsageError(f"The images cannot be corrupted: {error}.") from error
