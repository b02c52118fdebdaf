"""Class names of ImageNet, in the order of the published networks' outputs."""

from __future__ import annotations

from functools import cache

IMAGENET_CLASSES = 1000


@cache
def imagenet_names() -> tuple[str, ...]:
    """Return the 1,000 short class names of ILSVRC 2012, as torchvision's weights give them."""
    from torchvision.models import ResNet18_Weights

    return tuple(ResNet18_Weights.IMAGENET1K_V1.meta["categories"])


@cache
def timm_names(num_classes: int) -> tuple[str, ...] | None:
    """Return the names of the ImageNet subset with so many classes, or None when there is none.

    The 1,000 classes have the short names; larger subsets the WordNet lemmas that timm lists.
    """
    if num_classes == IMAGENET_CLASSES:
        return imagenet_names()
    from timm.data.imagenet_info import ImageNetInfo, infer_imagenet_subset

    subset = infer_imagenet_subset({"num_classes": num_classes})
    return tuple(ImageNetInfo(subset).label_descriptions()) if subset else None
