"""What a census holds: one row for each layer that an image meets."""

from __future__ import annotations

from dataclasses import dataclass

from probe.graph.census_ops import LAYERS, Kind, Numbers, Window


@dataclass(frozen=True)
class Reach:
    """What the units of a map see of the image, height before width, in pixels.

    ``size`` of the largest field, going on into the padding; ``jump`` between neighbouring units, None where there
    is one unit or all see the same; ``start``: the centre of the first unit's field, 0.5 being the middle of the
    first pixel; ``units`` of the map. ``note`` says what is left out (global gates) or not understood; it is empty
    where the field is exact.
    """

    size: tuple[int, int]
    jump: tuple[float, float] | None
    start: tuple[float, float]
    units: tuple[int, int]
    note: str = ""


@dataclass(frozen=True)
class Row:
    """One call of a layer, or of an operation that is none.

    ``name``: of the module that it happens in, "" for the network's own code; ``call``: 2 when that module runs for
    the second time. Shapes are without the batch; ``input`` is () where the operation has several. ``parameters`` are
    those that no earlier row has used, ``shared`` the others. ``macs`` for one image. ``activations``: bytes of the
    output where it needs memory of its own. ``reach`` is known for layers whose output is a map.
    """

    name: str
    call: int
    kind: Kind
    operation: str
    input: Numbers
    output: Numbers
    window: Window | None = None
    parameters: int = 0
    shared: int = 0
    macs: int = 0
    activations: int = 0
    reach: Reach | None = None

    @property
    def is_layer(self) -> bool:
        """Whether the row is a layer with a window or a matrix of weights, not a norm or elementwise."""
        return self.kind in LAYERS

    @property
    def depthwise(self) -> bool:
        """Whether the row is a convolution with a group for each input channel."""
        return self.window is not None and self.input[:1] == (self.window.groups,) != (1,)


@dataclass(frozen=True)
class Census:
    """All rows in execution order.

    ``parameters`` of the network, a shared one counted once; ``unused`` of them are in no row, because an image does
    not meet them in eval mode. ``peak``: bytes of the most that is alive at once, the image included.
    """

    rows: tuple[Row, ...]
    parameters: int
    unused: int
    peak: int
    image: tuple[int, int]

    @property
    def layers(self) -> tuple[Row, ...]:
        """The rows that are layers: convolutions, products, poolings, padding, resampling."""
        return tuple(row for row in self.rows if row.is_layer)

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one image."""
        return sum(row.macs for row in self.rows)

    @property
    def activations(self) -> int:
        """Bytes of all values that one image's forward pass computes, as training would keep them."""
        return sum(row.activations for row in self.rows)

    @property
    def reach(self) -> Reach | None:
        """What a unit of the last map with more than one unit sees; None where tokens meet each other after it."""
        for row in reversed(self.layers):
            if row.kind in ("attention", "matmul") and row.reach is None:
                return None
            if row.reach is not None and max(row.reach.units) > 1:
                return row.reach
        return None
