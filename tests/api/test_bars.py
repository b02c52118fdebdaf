"""Progress of calls from Python: bars in a notebook, silence elsewhere."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from probe.api.bars import BARS, in_notebook


class ZMQInteractiveShell:
    """What IPython calls the shell of a notebook."""


class TerminalInteractiveShell:
    """What it calls that of a terminal."""


@pytest.mark.parametrize(
    ("shell", "notebook"), [(ZMQInteractiveShell(), True), (TerminalInteractiveShell(), False), (None, False)]
)
@pytest.mark.filterwarnings("ignore:IProgress not found")
def test_bars_are_shown_in_a_notebook_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], shell: object, notebook: bool
) -> None:
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    assert in_notebook() is notebook
    with BARS.task("Attacking", 4) as advance:
        advance(2)
        advance(2)
    BARS.say("Weights: digits.")
    shown = capsys.readouterr()
    assert shown.out == ""
    assert ("Attacking" in shown.err) is notebook
    assert ("Weights: digits." in shown.err) is notebook


def test_without_ipython_there_is_no_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert not in_notebook()
