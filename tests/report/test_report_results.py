"""results.json: valid, complete, the same twice."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, NoReturn

import jsonschema
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from report_samples import small_report
from report_strategies import reports

from probe.core.document import Report, Result
from probe.report.results import dumps, jsonable, schema, to_json

VALIDATOR = jsonschema.Draft202012Validator(schema())


def refuse(token: str) -> NoReturn:
    raise AssertionError(f"{token} is not JSON")


def strict(text: str) -> Any:
    return json.loads(text, parse_constant=refuse)


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())


def test_small_report_mirrors_the_contract() -> None:
    document = strict(dumps(small_report()))
    VALIDATOR.validate(document)
    contract = [
        "schema_version",
        "study",
        "status",
        "command",
        "config",
        "model",
        "data",
        "environment",
        "seed",
        "results",
        "checks",
        "artifacts",
        "seconds",
    ]
    assert [key for key in document if key in contract] == contract
    assert {"name", "source", "weights", "sha256", "parameters", "macs", "input_size", "num_classes"} <= set(
        document["model"]
    )
    assert document["data"]["skipped"] == [
        {"name": "a.png", "reason": "truncated"},
        {"name": "b.png", "reason": "truncated"},
    ]
    assert document["results"][0] == {
        "name": "accuracy",
        "value": 17 / 18,
        "n": 18,
        "ci": document["results"][0]["ci"],
        "unit": "proportion",
        "higher_is_better": True,
    }
    low, high = document["results"][0]["ci"]
    p, n, z = 17 / 18, 18, 1.959963984540054
    middle, half = (
        (p + z * z / (2 * n)) / (1 + z * z / n),
        z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n),
    )
    assert (low, high) == pytest.approx((middle - half, middle + half))
    assert [result["name"] for result in document["results"]] == ["accuracy", "parameters", "silent filters"]
    assert [check["name"] for check in document["checks"]] == ["pixel range", "scale"]


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(reports)
def test_any_report_gives_json_that_fits_the_schema(report: Report) -> None:
    written = dumps(report)
    written.encode("utf-8")
    document = strict(written)
    assert document == to_json(report)
    VALIDATOR.validate(document)


def test_numbers_that_are_not_finite_become_null() -> None:
    results = (
        Result("a", math.nan),
        Result("b", math.inf, ci=(0.0, math.inf)),
        Result("c", np.float64("nan")),
    )
    document = to_json(small_report(results=results, seconds=math.nan))
    assert [result["value"] for result in document["results"][:3]] == [None] * 3
    assert document["results"][1]["ci"] is None
    assert document["seconds"] is None


def test_order_of_free_keys_does_not_matter() -> None:
    one = small_report(config={"b": {"y": 1, "x": 2}, "a": 1}, environment={"z": "1", "a": "2"})
    two = small_report(config={"a": 1, "b": {"x": 2, "y": 1}}, environment={"a": "2", "z": "1"})
    assert dumps(one) == dumps(two)


class Colour(Enum):
    RED = "red"


@dataclass(frozen=True)
class Options:
    steps: int
    where: Path


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (np.int64(3), 3),
        (np.float32(0.5), 0.5),
        (np.bool_(True), True),
        (np.array([[1.0, math.nan]]), [[1.0, None]]),
        (Path("a") / "b", "a/b"),
        ({3, 1, 2}, [1, 2, 3]),
        ((1, (2,)), [1, [2]]),
        (Colour.RED, "red"),
        (Options(3, Path("x")), {"steps": 3, "where": "x"}),
        ({1: {None: b"x"}}, {"1": {"None": "b'x'"}}),
        ("\udcff", "\\udcff"),
        (10**30, 10**30),
        (1 + 2j, "(1+2j)"),
    ],
)
def test_everything_becomes_plain(value: Any, plain: Any) -> None:
    assert jsonable(value) == plain
    assert type(jsonable(value)) is type(plain)


@pytest.mark.parametrize(
    "change",
    [
        {"status": "perhaps"},
        {"schema_version": 2},
        {"seed": "7"},
        {"results": [{"name": "x"}]},
        {"surprise": 1},
        {"model": {}},
    ],
)
def test_the_schema_refuses_what_is_not_a_report(change: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate({**to_json(small_report()), **change})
