"""Small reports for the tests, and the means to put a text into every one of their text fields."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_origin, get_type_hints

import numpy as np

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

HOSTILE = (
    "<script>alert(1)</script>",
    "</script><script>alert(2)</script>",
    "</style><style>*{display:none}</style>",
    "<img src=x onerror=alert(3)>",
    '" onmouseover="alert(4)" x="',
    "' autofocus onfocus='alert(5)",
    "<svg/onload=alert(6)>",
    "</title><svg><desc><![CDATA[</desc><script>alert(7)</script>]]></svg>",
    "<!--",
    "-->",
    "]]>",
    "javascript:alert(8)",
    "{{ 7 * 7 }}{% raw %}",
    "${alert(9)}",
    "`${alert(10)}`",
    "<a href='javascript:alert(11)'>x</a>",
    "<iframe srcdoc='<script>alert(12)</script>'>",
    "<base href=//evil.example>",
    "<meta http-equiv=refresh content=0;url=//evil.example>",
    "&lt;script&gt;alert(13)&lt;/script&gt;",
    "&#x3c;b&#x3e;",
    "\u202egnp.exe\u202c",
    "\u2066left\u2069",
    "a\x00b\x1b[31mred\x07",
    "\ud800 lone",
    "\u0627\u0644\u0639\u0631\u0628\u064a\u0629",
    "e" + "\u0301" * 40,
    "\ufeffbom\u200b",
    "line\u2028break",
    "x" * 3000,
    "é漢字🧑‍🔬",
    "%0a%0d%s%n",
    "../../etc/passwd",
    "<plaintext>",
    "<textarea>",
    "<!doctype html>",
    "<details open ontoggle=alert(14)>",
    "\r\n\r\n",
    "\\u003cscript\\u003e",
    "<math><mtext></form><form><mglyph><style></math><img src onerror=alert(15)>",
)
"""Texts that would run, load or disguise something if they were anything but text."""


def checkerboard(side: int = 4) -> Picture:
    pixels = (np.indices((side, side)).sum(0) % 2 * 255).astype(np.uint8)
    return Picture(pixels, "Checkerboard", "4 × 4", "conv1/ch0", pixelated=True)


def small_report(**changes: Any) -> Report:
    """One of everything that a report can hold."""
    line = Figure(
        "Accuracy falls with epsilon",
        "line",
        Axis("Epsilon (pixel units)"),
        Axis("Robust accuracy"),
        "Good: the line stays high.",
        (
            Series("plain", (0.0, 0.01, 0.02), (0.9, 0.5, 0.1), (0.8, 0.4, 0.05), (0.95, 0.6, 0.2)),
            Series("defended", (0.0, 0.01, 0.02), (0.8, 0.7, 0.6)),
        ),
    )
    bars = Figure(
        "Norms",
        "bar",
        Axis("Layer", categories=("conv1", "conv2")),
        Axis("Norm (L2)"),
        "Long is large.",
        (Series("norm", (0, 1), (2.0, 1.0)),),
    )
    points = Figure(
        "Size and importance",
        "scatter",
        Axis("Norm (L2)", "log"),
        Axis("Drop (points)"),
        "",
        (Series("filters", (1.0, 10.0), (0.5, 2.0)),),
    )
    heat = Figure(
        "Transfer",
        "heatmap",
        Axis("Target", categories=("a", "b")),
        Axis("Source", categories=("a", "b")),
        "Dark transfers little.",
        matrix=((1.0, 0.25), (0.5, 0.75)),
        value_label="Success",
    )
    table = Table(
        "Filters",
        (
            Column("Filter"),
            Column("Norm", "L2", "Euclidean norm"),
            Column("Share", proportion=True),
            Column("Silent"),
        ),
        (("conv1/0", 1.25, 0.5, False), ("conv1/1", None, 0.25, True), ("conv1/2", 12, None, False)),
        "Norms near zero are dead filters.",
    )
    gallery = Gallery(
        "Filters of conv1",
        (Strip((checkerboard(),), "conv1", "one common scale", "conv1"),),
        "Grey is zero.",
        64,
    )
    slides = SteppedGallery(
        "A perturbation grows",
        ("ε = 0.01", "ε = 0.02"),
        (
            (
                Strip((checkerboard(), checkerboard()), "digit 3", "named 3", "digit3/weak", (0, 1)),
                Strip((checkerboard(),), "digit 3"),
            ),
            (Strip((checkerboard(),)), Strip((checkerboard(2),), note="named 8")),
        ),
        "Move the slider: what it takes to change the answer.",
        32,
        1,
    )
    everything = Section(
        "weights",
        "Weights",
        "What the first layer looks for.",
        (
            gallery,
            table,
            line,
            bars,
            points,
            heat,
            Note("A plain word."),
            Note("Look out.", "warning"),
            slides,
        ),
        seconds=1.5,
        results=(Result.proportion("silent filters", 1, 3, higher_is_better=False),),
        checks=(Check("scale", "warn", 0.25, "One filter dominates."),),
        findings=("One of 3 filters is silent.",),
    )
    report = Report(
        study="filters",
        title="What a small network has learned",
        model=ModelInfo(
            "tiny",
            "zoo:tiny",
            "digits",
            "ab" * 32,
            1234,
            567890,
            (1, 8, 8),
            10,
            "MIT",
            "tiny.safetensors",
            ("These are digits weights, not ImageNet weights.",),
        ),
        data=DataInfo(
            "digits",
            18,
            20,
            True,
            "scikit-learn",
            "BSD",
            (Skipped("a.png", "truncated"), Skipped("b.png", "truncated")),
            "cd" * 32,
        ),
        config={"images": 4, "layers": None, "views": ("weights",)},
        environment={"python": "3.11", "torch": "2.14"},
        seed=7,
        command="probe filters --model zoo:tiny --seed 7",
        created="2026-11-23T21:42:24+00:00",
        seconds=12.3,
        headline=("tiny names 17 of 18 digits correctly: 94%.", "One of 3 filters is silent."),
        sections=(everything, Section("lrn", "Normalisation", reason="The network has none.")),
        results=(Result.proportion("accuracy", 17, 18, higher_is_better=True), Result("parameters", 1234)),
        checks=(Check("pixel range", "pass", "0 to 1", "All pixels lie in [0, 1]."),),
        warnings=("18 images are few.",),
        artifacts=("perturbations.npz",),
        status="skipped inputs",
        extra={"curve": [1, 2.5, None]},
        methods=("The weights of tiny were read.", "Filters were compared by cosine (Author 2020)."),
        references=("A. Author. On Filters. Journal, 2020.",),
    )
    return dataclasses.replace(report, **changes)


def with_texts(value: Any, text: Callable[[str], str]) -> Any:
    """Copy a tree of dataclasses with every free text replaced; fields of fixed words stay as they are."""
    if isinstance(value, str):
        return text(value)
    if isinstance(value, tuple):
        return tuple(with_texts(item, text) for item in value)
    if isinstance(value, list):
        return [with_texts(item, text) for item in value]
    if isinstance(value, Mapping):
        return {with_texts(key, text): with_texts(item, text) for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        hints = get_type_hints(type(value))
        changed = {
            field.name: with_texts(getattr(value, field.name), text)
            for field in dataclasses.fields(value)
            if get_origin(hints[field.name]) is not Literal
        }
        return dataclasses.replace(value, **changed)
    return value
