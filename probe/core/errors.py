"""The errors that users can see; each class has the exit code of the program."""

from __future__ import annotations

from collections.abc import Iterable


class ProbeError(Exception):
    """An error whose one-line message says what was wrong and how to fix it.

    The command line prints the message without a traceback (``--debug`` shows it)
    and exits with the class's ``exit_code``.
    """

    exit_code = 3


class UsageError(ProbeError):
    """Invalid usage: an option or argument is invalid, or several do not fit together (exit code 2)."""

    exit_code = 2


def did_you_mean(name: str, known: Iterable[str], most: int = 3) -> str:
    """Return `` Did you mean 'a' or 'b'?`` with the names similar to ``name``, empty if there are none."""
    import difflib

    folded = {candidate.lower(): candidate for candidate in known}
    near = difflib.get_close_matches(name.lower(), folded, n=most)
    return f" Did you mean {' or '.join(repr(folded[match]) for match in near)}?" if near else ""


def unknown(kind: str, name: str, known: Iterable[str], most: int = 12) -> UsageError:
    """Return the error for an unknown name, with similar names and at most ``most`` of the known names."""
    names = list(dict.fromkeys(known))
    more = f" and {len(names) - most} more" if len(names) > most else ""
    listed = f" Known: {', '.join(names[:most])}{more}." if names else ""
    return UsageError(f"There is no {kind} '{name}'.{did_you_mean(name, names)}{listed}")


class CannotRunError(ProbeError):
    """The usage is valid, but the command cannot run (exit code 3)."""

    exit_code = 3


class GateFailedError(ProbeError):
    """A result is below the threshold that the user set (exit code 1)."""

    exit_code = 1


class NotApplicableError(ProbeError):
    """One part of a study does not apply to this model or this data.

    The study shows the reason in place of the section, and continues with the other parts.
    """


EXIT_SKIPPED = 4
"""Finished, but some inputs were skipped, or a part failed; the report lists them."""

EXIT_INTERRUPTED = 130
"""Interrupted by Ctrl-C."""


def check_answers(n_answers: int, n_images: int) -> None:
    """Raise CannotRunError unless a network returned one row of logits for each image of a batch."""
    if n_answers != n_images:
        raise CannotRunError(
            f"The network returned {n_answers} rows of logits for a batch of {n_images} images: its forward must return one "
            "row for each image, whatever the size of the batch."
        )
