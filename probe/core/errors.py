"""The errors that a user can meet; each class owns the exit code it ends the program with."""

from __future__ import annotations

from collections.abc import Iterable


class ProbeError(Exception):
    """Say in one line what was wrong and how to fix it.

    The command line prints the message without a traceback (``--debug`` shows it)
    and ends with the class's ``exit_code``.
    """

    exit_code = 3


class UsageError(ProbeError):
    """The words typed cannot be understood or do not fit together (exit code 2)."""

    exit_code = 2


def did_you_mean(name: str, known: Iterable[str], most: int = 3) -> str:
    """Return `` Did you mean 'a' or 'b'?`` with the names that are close to ``name``, or nothing."""
    import difflib

    folded = {each.lower(): each for each in known}
    near = difflib.get_close_matches(name.lower(), folded, n=most)
    return f" Did you mean {' or '.join(repr(folded[each]) for each in near)}?" if near else ""


def unknown(kind: str, name: str, known: Iterable[str], most: int = 12) -> UsageError:
    """Return the error that there is no such ``kind``, with the names that are close and ``most`` of the known ones."""
    names = list(dict.fromkeys(known))
    more = f" and {len(names) - most} more" if len(names) > most else ""
    listed = f" Known: {', '.join(names[:most])}{more}." if names else ""
    return UsageError(f"There is no {kind} '{name}'.{did_you_mean(name, names)}{listed}")


class CannotRunError(ProbeError):
    """The words were understood but the work cannot be done here (exit code 3)."""

    exit_code = 3


class GateFailedError(ProbeError):
    """A result is below the threshold that the user asked for (exit code 1)."""

    exit_code = 1


class NotApplicableError(ProbeError):
    """One part of a study has no meaning for this model or this data.

    A study turns it into a section that gives the reason; the rest of the study goes on.
    """


EXIT_SKIPPED = 4
"""Finished, but some inputs were skipped; each is named in the report."""

EXIT_INTERRUPTED = 130
"""Interrupted by Ctrl-C."""
