"""``Site``: a place in the graph where a structure occurs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Site:
    """One place in the graph where a structure occurs.

    ``structure`` is the text of the structure with its options; ``name`` is unique among its sites. ``node`` is the
    node that is edited, and ``operands`` are the positions of the removed arguments (of a concatenation or an
    addition) or the channels (of a filter). ``form`` describes it in words, ``shape`` is the shape of one image's
    value at the node. ``place`` is the node's number in execution order, ``resizes`` whether height and width
    differ between the structure's input and output.
    """

    structure: str
    name: str
    node: str
    form: str
    shape: tuple[int, ...]
    place: int
    operands: tuple[int, ...] = ()
    resizes: bool = False
