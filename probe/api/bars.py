"""Progress bars of a notebook, where a call from Python is made in one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from probe.core.progress import SILENT, Advance, Progress


class NotebookBars:
    """Bars of tqdm in a Jupyter notebook, nothing elsewhere: scripts that want some pass ``progress=``."""

    @contextmanager
    def task(self, label: str, total: float | None) -> Iterator[Advance]:
        """Open a task with a bar that goes away at its end."""
        if not in_notebook():
            with SILENT.task(label, total) as advance:
                yield advance
            return
        from tqdm.auto import tqdm

        with tqdm(
            total=total, desc=label, leave=False, bar_format="{desc}: {percentage:3.0f}% {bar} {remaining}"
        ) as bar:

            def advance(units: float) -> None:
                bar.update(units)

            yield advance

    def say(self, text: str) -> None:
        """Print a sentence below the cell."""
        if in_notebook():
            from tqdm.auto import tqdm

            tqdm.write(text, file=sys.stderr)


def in_notebook() -> bool:
    """Tell whether this process is the kernel of a Jupyter notebook."""
    interactive = sys.modules.get("IPython")
    shell = interactive.get_ipython() if interactive is not None else None
    return type(shell).__name__ == "ZMQInteractiveShell"


BARS: Progress = NotebookBars()
