"""One image file."""

from __future__ import annotations

from probe.core.errors import CannotRunError, UsageError
from probe.data.images import ImageSet, LazyItems, printable
from probe.data.pictures import picture_kind, read_picture
from probe.data.source import SOURCES, Request
from probe.data.spec import Item, UnreadableError


@SOURCES.register("image")
def one_image(request: Request) -> ImageSet:
    """One image file, unlabelled, given by its path."""
    path = request.path
    if path is None:
        raise UsageError("Give the path of the image.")
    name = printable(path.name)
    try:
        kind = picture_kind(path)
    except UnreadableError as error:
        raise CannotRunError(
            f"'{name}' cannot be used: {error}. Give an image, a folder of images, arrays as FILE.npz, or my_data.py:FUNCTION."
        ) from None
    item = Item(name, None, lambda: read_picture(path), path)
    return ImageSet(
        name=name,
        items=LazyItems(1, lambda _: item),
        class_names=None,
        domain="folder",
        source=f"one {kind} file",
    )
