"""What happens to an image between its file and the network, in a sentence and for programs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from probe.core.subject import DataInfo, PreprocessingInfo
from probe.data.images import ImageSet
from probe.data.spec import InputSpec
from probe.models.loaded import LoadedModel
from probe.models.source import NORMALISATION, RESIZING, SIZE

_OPTIONS = {SIZE: "--img-size", RESIZING: "--resize or --crop", NORMALISATION: "--mean and --std"}
_SIZES_NAMED = 3


def describe_preprocessing(model: LoadedModel, images: ImageSet) -> PreprocessingInfo:
    """Return the preprocessing of the images that were read so far, and what of it was assumed.

    The input size is assumed only where some image had another size, and so is the resizing.
    """
    spec = model.input
    n_resized = sum(count for size, count in images.sizes.items() if _changes(size, spec, images.framed))
    resized = n_resized > 0
    assumed = [part for part in model.assumed if part == NORMALISATION or resized]
    if images.framed and RESIZING in assumed:
        assumed.remove(RESIZING)
    mean, std = (
        values.flatten().tolist() for values in (model.module.normalise.mean, model.module.normalise.std)
    )
    files = len(images) > 0 and images.items[0].path is not None
    chain: dict[str, Any] = {
        "decode": "Pillow" if files else "arrays",
        "exif_orientation": "applied" if files else "not applicable",
        "image_sizes": {_size(size): count for size, count in images.sizes.most_common(_SIZES_NAMED)},
        "n_sizes": len(images.sizes),
        "n_resized": n_resized,
        **_geometry(spec, images, resized),
        "channels": {1: "grey", 3: "RGB"}.get(spec.size[0], f"{spec.size[0]} channels"),
        "scale": "pixels in [0, 1]",
        "mean": [round(value, 6) for value in mean],
        "std": [round(value, 6) for value in std],
    }
    fixes = [_OPTIONS[part] for part in assumed]
    return PreprocessingInfo(_sentence(chain, images, spec), chain, tuple(assumed), " and ".join(fixes))


def data_info(model: LoadedModel, images: ImageSet, n: int, *, fingerprint: bool = True) -> DataInfo:
    """Return the description of ``n`` images for a report, with what happened to them before the network."""
    info = images.info(n, fingerprint=fingerprint)
    return replace(info, preprocessing=describe_preprocessing(model, images))


def _changes(size: tuple[int, int], spec: InputSpec, framed: bool) -> bool:
    direct = framed and not spec.asked
    return size != spec.size[1:] or not (direct or spec.as_is or spec.box == spec.size[1:])


def _geometry(spec: InputSpec, images: ImageSet, resized: bool) -> dict[str, Any]:
    """Return what resizing and crop did, None for what did not happen."""
    direct = images.framed and not spec.asked
    if not resized:
        return {"resize": None, "crop": None, "interpolation": None}
    box = spec.size[1:] if direct else spec.box
    rule = "squash" if direct else spec.aspect
    cropped = not direct and (rule == "keep" or box != spec.size[1:])
    return {
        "resize": {"height": box[0], "width": box[1], "aspect": rule, "antialias": True},
        "crop": {"height": spec.size[1], "width": spec.size[2], "from": "centre"} if cropped else None,
        "interpolation": spec.interpolation,
    }


def _sentence(chain: dict[str, Any], images: ImageSet, spec: InputSpec) -> str:
    n, n_resized = images.sizes.total(), chain["n_resized"]
    parts = ["decoded by Pillow, EXIF orientation applied" if chain["decode"] == "Pillow" else "arrays"]
    own = _size(spec.size[1:])
    if n_resized == 0:
        parts.append(f"neither resized nor cropped (every image has the network's {own} pixels)")
    else:
        resize, crop = chain["resize"], chain["crop"]
        box = _size((resize["height"], resize["width"]))
        how = {
            "keep": f"until the shorter side covers {box}",
            "squash": f"directly to {box}",
            "pad": f"to fit into {box}",
        }[resize["aspect"]]
        rest = "" if n_resized == n else f"; the others already have {own} and stay as they are"
        parts.append(
            f"{n_resized:,} of {n:,} images resized {_from(chain)} ({chain['interpolation']}, antialiased) {how}{rest}"
        )
        parts.append(f"centre crop {_size((crop['height'], crop['width']))}" if crop else "no crop")
    parts.append(f"{chain['channels']} in [0, 1]")
    if any(chain["mean"]) or set(chain["std"]) != {1.0}:
        parts.append(f"normalised with mean {_numbers(chain['mean'])} and std {_numbers(chain['std'])}")
    else:
        parts.append("not normalised")
    return "; ".join(parts)


def _from(chain: dict[str, Any]) -> str:
    sizes = chain["image_sizes"]
    if chain["n_sizes"] == 1:
        return f"from {next(iter(sizes))}"
    named = ", ".join(f"{size} ({count:,})" for size, count in sizes.items())
    more = "" if chain["n_sizes"] <= _SIZES_NAMED else f" and {chain['n_sizes'] - _SIZES_NAMED} other sizes"
    return f"from {named}{more}"


def _numbers(values: list[float]) -> str:
    same = values[:1] if len(set(values)) == 1 else values
    return ", ".join(f"{value:.4g}" for value in same)


def _size(size: tuple[int, ...]) -> str:
    return "×".join(map(str, size))
