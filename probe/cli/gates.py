"""``--fail-under``: results that must reach a threshold, checked after the report has been written."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import click

from probe.core.errors import GateFailedError, UsageError, unknown

if TYPE_CHECKING:
    from probe.core.document import Report, Result

    _ParamType = click.ParamType[Any]
else:
    _ParamType = click.ParamType  # generic in newer releases only

GateOn = Literal["value", "interval"]

_NEAREST = 4


@dataclass(frozen=True)
class ResultGate:
    """The name of a result, and the threshold that it must not be below (above, where lower is better)."""

    name: str
    threshold: float


class GateParam(_ParamType):
    """``NAME=VALUE``; the name may contain ``=``, for example ``robust_accuracy:pgd?steps=100``."""

    name = "gate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> ResultGate:
        """Parse the text; click reports invalid values."""
        if isinstance(value, ResultGate):
            return value
        name, equals, text = str(value).rpartition("=")
        try:
            threshold = float(text)
        except ValueError:
            threshold = math.nan
        if not (name and equals and math.isfinite(threshold)):
            self.fail(f"'{value}' is not NAME=VALUE, such as robust_accuracy=0.4", param, ctx)
        return ResultGate(name, threshold)


def check_gates(report: Report, gates: Sequence[ResultGate], on: GateOn = "value") -> None:
    """Raise GateFailedError when results do not reach their thresholds, with one line that lists all of them.

    A result fails when it is below the threshold, or above it where ``higher_is_better`` is False. A result without
    a value (nothing to measure, or NaN) fails too. ``interval`` compares the worse end of the 95% interval
    instead of the value. Raises UsageError for a name that the report does not have, for a result that is text,
    and for a result without an interval if intervals are compared.
    """
    failures = [
        text
        for gate in gates
        for result in _results_for(report, gate)
        if (text := _failure(result, gate, on))
    ]
    if failures:
        raise GateFailedError(f"{'; '.join(failures)}.")


def _results_for(report: Report, gate: ResultGate) -> list[Result]:
    results = [result for result in report.all_results if result.name == gate.name]
    if results:
        return results
    raise unknown("result", gate.name, (result.name for result in report.all_results))


def _failure(result: Result, gate: ResultGate, on: GateOn) -> str:
    """Return how a result fails its gate, empty if it passes."""
    if isinstance(result.value, str):
        raise UsageError(f"--fail-under: {result.name} is text, '{result.value}', and cannot be compared.")
    lower_is_better = result.higher_is_better is False
    if result.value is None or math.isnan(result.value):
        return f"{result.name} has no value to compare with {gate.threshold:g}"
    compared = float(result.value)
    if on == "interval":
        if result.ci is None:
            raise UsageError(
                f"--gate-on interval: {result.name} has no interval; use --gate-on value instead."
            )
        compared = result.ci[1] if lower_is_better else result.ci[0]
    # An end of the interval that is NaN fails both comparisons.
    if compared <= gate.threshold if lower_is_better else compared >= gate.threshold:
        return ""
    end = "" if on == "value" else f" with the {'upper' if lower_is_better else 'lower'} end of its interval"
    side = "above" if lower_is_better else "below"
    hint = ", and lower is better" if lower_is_better else ""
    return f"{_result_text(result)} is {side} {gate.threshold:g}{end}{hint}"


def _result_text(result: Result) -> str:
    """Format a result with its interval and n: ``robust_accuracy = 0.35 [0.181, 0.567] (n = 20)``."""
    interval = "" if result.ci is None else f" [{result.ci[0]:.3g}, {result.ci[1]:.3g}]"
    n = "" if result.n is None else f" (n = {result.n})"
    value = f"{result.value:.6g}" if isinstance(result.value, float) else f"{result.value}"
    return f"{result.name} = {value}{interval}{n}"
