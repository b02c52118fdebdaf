"""Images: by name, from folders and files, or in memory, as an ``ImageSet``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probe.core.lazy import lazy_exports

if TYPE_CHECKING:
    from probe.data.corruptions import CORRUPTIONS as CORRUPTIONS
    from probe.data.images import ImageSet as ImageSet
    from probe.data.load import load_images as load_images
    from probe.data.spec import InputSpec as InputSpec
    from probe.data.spec import Item as Item

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "ImageSet": "probe.data.images",
        "InputSpec": "probe.data.spec",
        "Item": "probe.data.spec",
        "load_images": "probe.data.load",
        "CORRUPTIONS": "probe.data.corruptions",
    },
)

__all__ = ["CORRUPTIONS", "ImageSet", "InputSpec", "Item", "load_images"]
