"""A place in the graph where a structure occurs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Site:
    """One place in the graph where a structure occurs.

    ``structure`` is the word that names it, with options; ``name`` is unique among its sites. ``node`` is the graph's
    node that the cut edits and ``operands`` the positions in its arguments that go (of a concatenation or an
    addition) or the channels (of a filter). ``form`` says in words what it is here, ``shape`` is that of one image's
    value at the node. ``place`` is the node's number in execution order, ``resizes`` whether height and width
    change between the structure's input and its output.
    """

    structure: str
    name: str
    node: str
    form: str
    shape: tuple[int, ...]
    place: int
    operands: tuple[int, ...] = ()
    resizes: bool = False
