"""The user's choices about preprocessing, applied to what a network brings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from probe.core.errors import UsageError
from probe.data.preprocess import MAX_PIXELS
from probe.data.spec import Interpolation
from probe.models.source import NORMALISATION, RESIZING, Preprocessing

PerChannel = float | Sequence[float] | None


@dataclass(frozen=True)
class PreprocessingOptions:
    """What the user says about preprocessing; None leaves what the network brings.

    ``mean`` and ``std``: one value or one per channel, for pixels in [0, 1]. ``resize``: the length of the shorter side
    before the centre crop, or (height, width) to resize to exactly that. ``crop`` in (0, 1]: the share of the resized
    image that the centre crop keeps; 'none' resizes to exactly the input size. ``interpolation``: nearest, bilinear or
    bicubic.
    """

    mean: PerChannel = None
    std: PerChannel = None
    resize: int | tuple[int, int] | None = None
    crop: float | str | None = None
    interpolation: Interpolation | None = None

    def applied(self, framing: Preprocessing) -> Preprocessing:
        """Return the preprocessing with these choices; raises UsageError for values that do not fit it."""
        return self._resized(self._normalised(framing))

    @property
    def normalises(self) -> bool:
        """Whether a normalisation is given."""
        return self.mean is not None or self.std is not None

    def _normalised(self, framing: Preprocessing) -> Preprocessing:
        if not self.normalises:
            return framing
        channels = framing.input.size[0]
        mean = framing.mean if self.mean is None else _per_channel("mean", self.mean, channels)
        std = framing.std if self.std is None else _per_channel("std", self.std, channels)
        if not min(std) > 0:
            raise UsageError(f"Each std must be above 0; got {', '.join(map(str, std))}.")
        return replace(framing.without(NORMALISATION), mean=mean, std=std)

    def _resized(self, framing: Preprocessing) -> Preprocessing:
        spec = framing.input
        if self.interpolation is not None:
            spec = replace(spec, interpolation=self.interpolation)
        if self.resize is None and self.crop is None:
            return replace(framing, input=spec)
        if self.resize is not None and self.crop is not None:
            raise UsageError(
                "Give the resize or the crop, not both: after --resize, the centre crop has the network's input size."
            )
        if self.crop is not None:
            spec = replace(spec, aspect="keep", resize=None, crop=self._share())
            if self.crop == "none":
                spec = replace(spec, aspect="squash")
        elif isinstance(self.resize, int):
            spec = replace(spec, aspect="keep", resize=(self.resize, self.resize))
        else:
            spec = replace(spec, aspect="squash", resize=self.resize)
        if spec.box[0] * spec.box[1] > MAX_PIXELS:
            raise UsageError(
                f"Images cannot be resized to {spec.box[0]}×{spec.box[1]}: at most {MAX_PIXELS // 10**6} megapixels are read."
            )
        return replace(framing.without(RESIZING), input=replace(spec, as_is=False, asked=True))

    def _share(self) -> float:
        if self.crop in (None, "none"):
            return 1.0
        try:
            return float(self.crop or 0)
        except ValueError:
            raise UsageError(
                f"The crop is a share in (0, 1], such as 0.875, or none; got '{self.crop}'."
            ) from None


def _per_channel(what: str, value: float | Sequence[float], channels: int) -> tuple[float, ...]:
    values = (float(value),) if isinstance(value, int | float) else tuple(map(float, value))
    if len(values) not in (1, channels):
        raise UsageError(f"{what} has {len(values)} values, but the network has {channels} input channels.")
    return values * channels if len(values) == 1 else values
