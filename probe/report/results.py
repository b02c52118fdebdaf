"""results.json: the numbers of a report for programs, always valid JSON."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from enum import Enum
from functools import cache
from pathlib import Path, PurePath
from typing import Any, Literal

import numpy as np

from probe.core.document import Check, Json, Report, Result
from probe.core.subject import DataInfo, ModelInfo
from probe.report.text import encodable

SCHEMA_VERSION = 1

Schema = Literal["results", "samples"]

SAMPLES = "samples.jsonl"

_LINE_ENDS = {ord(mark): f"\\u{ord(mark):04x}" for mark in "\x85\u2028\u2029"}
"""Those that JSON does not escape itself."""


def to_json(report: Report) -> dict[str, Json]:
    """Return the report's numbers as plain JSON values, in the published order of keys.

    What is not finite becomes null; what JSON does not know becomes its text. Pictures, tables and
    charts are not part of it.
    """
    document = {
        "schema_version": SCHEMA_VERSION,
        "study": report.study,
        "title": report.title,
        "status": report.status,
        "created": report.created,
        "command": report.command,
        "config": report.config,
        "model": _model(report.model),
        "data": _data(report.data),
        "environment": {str(key): str(value) for key, value in report.environment.items()},
        "seed": report.seed,
        "headline": report.headline,
        "warnings": report.warnings,
        "methods": report.methods,
        "references": report.references,
        "results": [_result(result) for result in report.all_results],
        "verdict": report.verdict,
        "checks": [_check(check) for check in report.all_checks],
        "artifacts": artifacts(report),
        "seconds": report.seconds,
        "extra": report.extra,
    }
    plain = {key: jsonable(value) for key, value in document.items()}
    for free in ("config", "environment", "extra"):
        plain[free] = _sorted(plain[free])
    return plain


def artifacts(report: Report) -> tuple[str, ...]:
    """Return the names of the files beside results.json that belong to the report, each once."""
    samples = (SAMPLES,) if report.samples else ()
    return tuple(dict.fromkeys((*report.artifacts, *samples, *report.files)))


def dumps(report: Report) -> str:
    """Return results.json's text: UTF-8, indented, the same for the same report."""
    return json.dumps(to_json(report), ensure_ascii=False, allow_nan=False, indent=2) + "\n"


def dumps_samples(report: Report) -> str:
    """Return samples.jsonl's text: one JSON object a line, one line an image; what is not finite is null.

    Whatever a reader might take for the end of a line is escaped.
    """
    lines = (
        json.dumps(jsonable(sample), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        for sample in report.samples
    )
    return "".join(f"{line.translate(_LINE_ENDS)}\n" for line in lines)


@cache
def schema_text(what: Schema = "results") -> str:
    """Return the text of a published JSON Schema (2020-12): of results.json, or of a line of samples.jsonl."""
    name = "schema.json" if what == "results" else "samples.schema.json"
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def schema(what: Schema = "results") -> dict[str, Json]:
    """Return a published JSON Schema (2020-12): of results.json, or of a line of samples.jsonl."""
    document: dict[str, Json] = json.loads(schema_text(what))
    return document


def _model(model: ModelInfo) -> dict[str, Json]:
    return {
        "name": model.name,
        "source": model.source,
        "weights": model.weights,
        "sha256": model.sha256,
        "parameters": model.parameters,
        "macs": model.macs,
        "input_size": list(model.input_size),
        "num_classes": model.num_classes,
        "licence": model.licence,
        "file": file_name(model),
        "notes": model.notes,
    }


def file_name(model: ModelInfo) -> str:
    """Return the name of the weights file without its folders, which are nobody else's business."""
    return model.file.replace("\\", "/").rstrip("/").rpartition("/")[2]


def _data(data: DataInfo) -> dict[str, Json]:
    return {
        "name": data.name,
        "n": data.n,
        "total": data.total,
        "labelled": data.labelled,
        "source": data.source,
        "licence": data.licence,
        "sha256": data.sha256,
        "labels": data.labels,
        "preprocessing": {**data.preprocessing.chain, "assumed": list(data.preprocessing.assumed)},
        "skipped": [{"name": item.name, "reason": item.reason} for item in data.skipped],
    }


def _result(result: Result) -> dict[str, Json]:
    ci = result.ci if result.ci is not None and all(map(math.isfinite, result.ci)) else None
    return {
        "name": result.name,
        "value": result.value,
        "n": result.n,
        "ci": list(ci) if ci else None,
        "unit": result.unit,
        "higher_is_better": result.higher_is_better,
        **({"per_image": result.per_image} if result.per_image else {}),
    }


def _check(check: Check) -> dict[str, Json]:
    return {"name": check.name, "status": check.status, "value": check.value, "detail": check.detail}


def jsonable(value: Any) -> Json:
    """Turn any value into what JSON can say; keys become text, numbers that are not finite null."""
    if isinstance(value, np.ndarray | np.generic):
        return jsonable(value.tolist())
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Enum):
        return jsonable(value.value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, str):
        return encodable(str(value))
    return _jsonable_container(value)


def _jsonable_container(value: Any) -> Json:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return {field.name: jsonable(getattr(value, field.name)) for field in fields}
    if isinstance(value, Mapping):
        return {encodable(str(key)): jsonable(item) for key, item in value.items()}
    if isinstance(value, PurePath):
        return encodable(value.as_posix())
    if isinstance(value, AbstractSet):
        return sorted(map(jsonable, value), key=lambda item: (str(type(item)), str(item)))
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [jsonable(item) for item in value]
    return encodable(str(value))


def _sorted(value: Json) -> Json:
    """Sort the keys of free mappings at every depth."""
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [_sorted(item) for item in value]
    return value
