"""Report → the HTML page: what the template is given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from typing import Any

import probe
from probe.core.blocks import Cell, Column, Figure, Gallery, Note, Picture, Table
from probe.core.document import Check, Report, Section
from probe.core.subject import Skipped
from probe.core.verdict import unremarkable
from probe.report import pictures
from probe.report.charts.figures import chart, key_chart
from probe.report.galleries import gallery_view, key_view, pictures_of, slides_view
from probe.report.key import Key, find_key
from probe.report.results import file_name
from probe.report.tables import Grid, Shown, grid
from probe.report.templating import Anchors, is_number, render

LIMIT = 15_000_000
"""Bytes that a page never exceeds because of its pictures."""

TABLE_ROWS = 2000
_ROWS_LINKED = 400
"""Rows of a longer table have fragments of their own, but show no link: each is a stop on the way by keyboard."""
_RESERVED = ("main", "key", "findings", "warnings", "checks", "provenance", "results", "contents")
"""The page's own ids; its other ids have a colon, which no anchor has."""


@dataclass(frozen=True)
class Block:
    """One block of a section; ``kind`` is note, table, chart, gallery or slides."""

    id: str
    kind: str
    content: Any
    note: str = ""


@dataclass(frozen=True)
class Part:
    """A section with its blocks."""

    id: str
    section: Section
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Judged:
    """A check with its fragment, and the fragment and title of its section (empty for the report's own)."""

    check: Check
    id: str
    where: str
    title: str


@dataclass(frozen=True)
class HeadlinePicture:
    """What stands beside the headline, and the fragment of where the whole of it is."""

    kind: str
    title: str
    content: Any
    where: str


def page(report: Report, *, beside: bool = True) -> str:
    """Return the whole HTML page; ``beside`` says that results.json will lie beside it.

    Pictures are stored at the best fidelity that keeps them below a comfortable size; never does
    the page exceed ``LIMIT`` because of them.
    """
    shown = list(_pictures(report))
    html = ""
    for fidelity in pictures.STEPS:
        encoded = pictures.encode_all(shown, fidelity)
        size = sum(len(item.uri) for item in encoded if item)
        last = fidelity is pictures.STEPS[-1]
        if not last and size > (pictures.COMFORTABLE if fidelity is pictures.STEPS[0] else 0.9 * LIMIT):
            continue
        html = _render(report, encoded, fidelity, beside)
        if last or len(html.encode()) <= LIMIT:
            break
    return html


def _pictures(report: Report) -> Iterator[Picture]:
    for section in report.sections:
        for block in section.blocks:
            yield from pictures_of(block)
    key = find_key(report)
    if key and isinstance(key.content, Gallery):
        yield from pictures_of(key.content)


def _render(
    report: Report, encoded: Sequence[pictures.Encoded | None], fidelity: pictures.Fidelity, beside: bool
) -> str:
    anchors = Anchors(set(_RESERVED))
    supply = iter(encoded)
    ids = [anchors.take(section.id) for section in report.sections]
    parts = tuple(
        Part(own, section, tuple(_blocks(own, section, anchors, supply)))
        for own, section in zip(ids, report.sections, strict=True)
    )
    checks = _checks(report, ids, anchors)
    key = _beside(find_key(report), parts, anchors, supply)
    blocks: list[Block | HeadlinePicture] = [block for part in parts for block in part.blocks]
    blocks += [key] if key else []
    views = [block.content for block in blocks if block.kind in ("gallery", "slides")]
    widths = {width for view in views for width in view.widths}
    return render(
        "report.html.j2",
        "".join(f".w{width}{{--tile:{width}px}}" for width in sorted(widths)),
        report=report,
        parts=parts,
        warnings=warnings(report, fidelity),
        skipped=grouped(report.data.skipped),
        checks=checks,
        key=key,
        standing=[judged for judged in checks if judged.check.status in ("fail", "warn")],
        folded=[judged for judged in checks if judged.check.status in ("pass", "not applicable")],
        unremarkable=unremarkable(check.status for check in report.all_checks),
        failed=[judged for judged in checks if judged.check.status == "fail"],
        file=file_name(report.model),
        verdict=report.verdict,
        linked=_ROWS_LINKED,
        result_ids=[anchors.take(f"results/{result.name}") for result in report.all_results],
        tiles=[result for result in report.results if is_number(result)][:4],
        version=probe.__version__,
        beside=beside,
    )


def _beside(
    key: Key | None, parts: Sequence[Part], anchors: Anchors, supply: Iterator[pictures.Encoded | None]
) -> HeadlinePicture | None:
    if key is None:
        return None
    where = parts[key.section].blocks[key.block].id
    if isinstance(key.content, Figure):
        return HeadlinePicture("chart", key.content.title, key_chart(key.content, "key"), where)
    return HeadlinePicture("gallery", key.content.title, key_view(key.content, anchors, supply), where)


def _blocks(
    own: str, section: Section, anchors: Anchors, supply: Iterator[pictures.Encoded | None]
) -> Iterator[Block]:
    ids = [anchors.take(f"{own}/{number}") for number in range(1, len(section.blocks) + 1)]
    for identifier, block in zip(ids, section.blocks, strict=True):
        if isinstance(block, Note):
            yield Block(identifier, "note", block)
        elif isinstance(block, Table):
            yield Block(identifier, "table", *_table(block, own, anchors))
        elif isinstance(block, Figure):
            yield Block(identifier, "chart", chart(block, identifier))
        elif isinstance(block, Gallery):
            yield Block(identifier, "gallery", gallery_view(block, anchors, supply))
        else:
            yield Block(identifier, "slides", slides_view(block, anchors, supply))


def _table(table: Table, own: str, anchors: Anchors) -> tuple[Grid, str]:
    """Return the table with a fragment for each named row, such as ``lesion/layer2.0.conv1``, and a note when cut."""
    shown = grid(table, TABLE_ROWS)
    if shown.named:
        names = map(_row_name, table.rows, shown.rows, repeat(table.columns))
        shown = replace(shown, ids=tuple(anchors.take(f"{own}/{name}") for name in names))
    cut = len(table.rows) > TABLE_ROWS
    return shown, f"The first {TABLE_ROWS:,} of {len(table.rows):,} rows." if cut else ""


def _row_name(cells: tuple[Cell, ...], texts: tuple[Shown, ...], columns: tuple[Column, ...]) -> str:
    """Return a row's name: its first cell, with ``/ch17`` where the second column numbers channels or filters."""
    numbered = len(columns) > 1 and columns[1].name.lower() in ("channel", "filter")
    return f"{texts[0].text}/ch{cells[1]}" if numbered and isinstance(cells[1], int) else texts[0].text


def warnings(report: Report, fidelity: pictures.Fidelity) -> tuple[str, ...]:
    """Return the sentences that must not be missed, each once."""
    sentences = [*report.model.notes, *report.warnings]
    if report.status == "interrupted":
        sentences.insert(0, "The run was interrupted: this report holds only what was finished by then.")
    if fidelity.warning:
        sentences.append(f"{fidelity.warning} to keep this file below {LIMIT // 1_000_000} MB.")
    return tuple(dict.fromkeys(sentences))


def grouped(skipped: Sequence[Skipped]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Group skipped inputs by reason, the most frequent reason first."""
    groups: dict[str, list[str]] = {}
    for item in skipped:
        groups.setdefault(item.reason, []).append(item.name)
    return tuple((reason, tuple(names)) for reason, names in sorted(groups.items(), key=lambda g: -len(g[1])))


def _checks(report: Report, ids: Sequence[str], anchors: Anchors) -> tuple[Judged, ...]:
    """Return every check, what failed first."""
    located = [(check, "", "") for check in report.checks]
    for identifier, section in zip(ids, report.sections, strict=True):
        located += [(check, identifier, section.title) for check in section.checks]
    judged = [
        Judged(check, anchors.take(f"check/{check.name}"), where, title) for check, where, title in located
    ]
    order = {"fail": 0, "warn": 1, "pass": 2, "not applicable": 3}
    return tuple(sorted(judged, key=lambda judgement: order[judgement.check.status]))
