"""The errors that a user can meet; each class owns the exit code it ends the program with."""

from __future__ import annotations


class ProbeError(Exception):
    """Say in one line what was wrong and the way out.

    The command line prints the message without a traceback (``--debug`` shows it)
    and ends with the class's ``exit_code``.
    """

    exit_code = 3


class UsageError(ProbeError):
    """The words typed cannot be understood or do not fit together (exit code 2)."""

    exit_code = 2


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
