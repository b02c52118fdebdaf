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
from typing import Any

import numpy as np

from probe.core.report import Check, DataInfo, Json, ModelInfo, Report, Result
from probe.report.text import encodable

SCHEMA_VERSION = 1


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
        "checks": [_check(check) for check in report.all_checks],
        "artifacts": report.artifacts,
        "seconds": report.seconds,
        "extra": report.extra,
    }
    plain = {key: jsonable(value) for key, value in document.items()}
    for free in ("config", "environment", "extra"):
        plain[free] = _sorted(plain[free])
    return plain


def dumps(report: Report) -> str:
    """Return results.json's text: UTF-8, indented, the same for the same report."""
    return json.dumps(to_json(report), ensure_ascii=False, allow_nan=False, indent=2) + "\n"


@cache
def _schema_text() -> str:
    return Path(__file__).with_name("schema.json").read_text(encoding="utf-8")


def schema() -> dict[str, Json]:
    """Return the published JSON Schema (2020-12) of results.json."""
    document: dict[str, Json] = json.loads(_schema_text())
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
        "file": model.file,
        "notes": model.notes,
    }


def _data(data: DataInfo) -> dict[str, Json]:
    return {
        "name": data.name,
        "n": data.n,
        "total": data.total,
        "labelled": data.labelled,
        "source": data.source,
        "licence": data.licence,
        "sha256": data.sha256,
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
