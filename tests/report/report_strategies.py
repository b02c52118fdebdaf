"""Reports that hypothesis invents: any text, any number, any shape."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from probe.core.blocks import (
    Axis,
    Column,
    Figure,
    Gallery,
    Note,
    Picture,
    Series,
    SteppedGallery,
    Strip,
    Table,
)
from probe.core.document import Check, Report, Result, Section
from probe.core.subject import DataInfo, ModelInfo, Skipped

texts = st.text(st.characters(codec=None, exclude_categories=()), max_size=12)
numbers = st.floats(width=64)
counts = st.integers(0, 10**15)


def tuples_of(items: st.SearchStrategy[Any], most: int = 3) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(items, max_size=most).map(tuple)


cells = st.one_of(st.none(), st.booleans(), st.integers(), numbers, texts)
axes = st.builds(Axis, texts, st.sampled_from(["linear", "log"]), tuples_of(texts))


@st.composite
def series(draw: st.DrawFn) -> Series:
    length = draw(st.integers(0, 5))
    values = st.lists(numbers, min_size=length, max_size=length).map(tuple)
    low, high = draw(st.one_of(st.just(((), ())), st.tuples(values, values)))
    return Series(draw(texts), draw(values), draw(values), low, high)


figures = st.builds(
    Figure,
    texts,
    st.sampled_from(["line", "bar", "scatter", "polar", "heatmap"]),
    axes,
    axes,
    texts,
    tuples_of(series()),
    tuples_of(tuples_of(numbers, 4)),
    texts,
)


@st.composite
def tables(draw: st.DrawFn) -> Table:
    columns = draw(tuples_of(st.builds(Column, texts, texts, texts, st.integers(1, 6), st.booleans())))
    row = st.tuples(*[cells for _ in columns])
    return Table(draw(texts), columns, draw(tuples_of(row, 4)), draw(texts))


shapes = st.one_of(
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3)),
)
pictures = st.builds(Picture, hnp.arrays(np.uint8, shapes), texts, texts, texts, st.booleans())


@st.composite
def comparable(draw: st.DrawFn) -> Strip:
    one, other = draw(pictures), draw(texts)
    places = st.tuples(st.integers(0, 1), st.integers(0, 1))
    return Strip((one, replace(one, alt=other)), draw(texts), draw(texts), draw(texts), draw(places))


strips = st.one_of(st.builds(Strip, tuples_of(pictures), texts, texts, texts), comparable())
galleries = st.builds(Gallery, texts, tuples_of(strips), texts, st.integers(1, 900))


@st.composite
def slides(draw: st.DrawFn) -> SteppedGallery:
    steps = draw(tuples_of(texts))
    row = st.tuples(*[strips for _ in steps])
    start = draw(st.integers(0, max(0, len(steps) - 1)))
    return SteppedGallery(
        draw(texts), steps, draw(tuples_of(row, 2)), draw(texts), draw(st.integers(1, 900)), start
    )


notes = st.builds(Note, texts, st.sampled_from(["plain", "warning"]))
intervals = st.one_of(st.none(), st.tuples(numbers, numbers))
results = st.builds(
    Result,
    texts,
    st.one_of(st.none(), st.integers(), numbers, texts),
    st.one_of(st.none(), counts),
    intervals,
    st.one_of(texts, st.just("proportion")),
    st.one_of(st.none(), st.booleans()),
)
checks = st.builds(Check, texts, st.sampled_from(["pass", "warn", "fail", "not applicable"]), cells, texts)
sections = st.builds(
    Section,
    texts,
    texts,
    texts,
    tuples_of(st.one_of(notes, tables(), figures, galleries, slides())),
    texts,
    numbers,
    tuples_of(results),
    tuples_of(checks),
    tuples_of(texts),
)
models = st.builds(
    ModelInfo,
    texts,
    texts,
    texts,
    st.one_of(st.none(), texts),
    counts,
    st.one_of(st.none(), counts),
    st.tuples(st.integers(1, 999), st.integers(1, 999), st.integers(1, 999)),
    counts,
    texts,
    texts,
    tuples_of(texts),
)
skipped = tuples_of(st.builds(Skipped, texts, texts))
datas = st.builds(
    DataInfo, texts, counts, counts, st.booleans(), texts, texts, skipped, st.one_of(st.none(), texts)
)
free = st.recursive(
    cells, lambda inner: st.one_of(tuples_of(inner), st.dictionaries(texts, inner, max_size=3)), max_leaves=6
)
reports = st.builds(
    Report,
    study=texts,
    title=texts,
    model=models,
    data=datas,
    config=st.dictionaries(texts, free, max_size=3),
    environment=st.dictionaries(texts, texts, max_size=3),
    seed=st.integers(),
    command=texts,
    created=texts,
    seconds=numbers,
    headline=tuples_of(texts),
    sections=tuples_of(sections),
    results=tuples_of(results),
    checks=tuples_of(checks),
    warnings=tuples_of(texts),
    artifacts=tuples_of(texts),
    status=st.sampled_from(["done", "skipped inputs", "interrupted"]),
    extra=st.dictionaries(texts, free, max_size=3),
    methods=tuples_of(texts),
    references=tuples_of(texts),
)
