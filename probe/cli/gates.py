"""``--fail-under``: results that must reach a threshold, looked at when the report has been written."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import click

from probe.core.errors import GateFailedError, UsageError, unknown

if TYPE_CHECKING:
    from probe.core.document import Report, Result

    _Words = click.ParamType[Any]
else:
    _Words = click.ParamType  # generic in newer releases only

GateOn = Literal["value", "interval"]

_NEAREST = 4


@dataclass(frozen=True)
class ResultGate:
    """A result by its name, and the threshold that it must not be below (above, where lower is better)."""

    name: str
    threshold: float


class GateParam(_Words):
    """``NAME=VALUE``; the name may have ``=`` in it, as ``robust_accuracy:pgd?steps=100`` has."""

    name = "gate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> ResultGate:
        """Parse the words; click reports what cannot be understood."""
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
    """Raise GateFailedError when a result does not reach its threshold, in one line that names all of these.

    A result fails when it is below the threshold, or above it where ``higher_is_better`` is False; one that has no
    value (nothing to measure, or not a number) fails, too. ``interval`` compares the worse end of the 95% interval
    instead of the value. Raises UsageError for a name that the report does not have, for a result that is text,
    and for one without the interval asked for.
    """
    failed = [
        said for gate in gates for result in _found(report, gate) if (said := _failing(result, gate, on))
    ]
    if failed:
        raise GateFailedError(f"{'; '.join(failed)}.")


def _found(report: Report, gate: ResultGate) -> list[Result]:
    found = [result for result in report.all_results if result.name == gate.name]
    if found:
        return found
    raise unknown("result", gate.name, (result.name for result in report.all_results))


def _failing(result: Result, gate: ResultGate, on: GateOn) -> str:
    """Say how a result fails, nothing when it does not."""
    if isinstance(result.value, str):
        raise UsageError(f"--fail-under: {result.name} is text, '{result.value}', and cannot be compared.")
    most = result.higher_is_better is False
    if result.value is None or math.isnan(result.value):
        return f"{result.name} has no value to compare with {gate.threshold:g}"
    compared = float(result.value)
    if on == "interval":
        if result.ci is None:
            raise UsageError(
                f"--gate-on interval: {result.name} has no interval; compare the value, --gate-on value."
            )
        compared = result.ci[1] if most else result.ci[0]
    # Not a number: an end of an interval that is none does not reach anything.
    if compared <= gate.threshold if most else compared >= gate.threshold:
        return ""
    end = "" if on == "value" else f" with the {'upper' if most else 'lower'} end of its interval"
    side = "above" if most else "below"
    return f"{_told(result)} is {side} {gate.threshold:g}{end}{', and lower is better' if most else ''}"


def _told(result: Result) -> str:
    """Write a result with its interval and n: ``robust_accuracy = 0.35 [0.181, 0.567] (n = 20)``."""
    interval = "" if result.ci is None else f" [{result.ci[0]:.3g}, {result.ci[1]:.3g}]"
    n = "" if result.n is None else f" (n = {result.n})"
    value = f"{result.value:.6g}" if isinstance(result.value, float) else f"{result.value}"
    return f"{result.name} = {value}{interval}{n}"
