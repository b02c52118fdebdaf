"""A run that is ended by a signal leaves no worker behind, and no tracker's warning on stderr."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPT = """
import os, sys, time
from pathlib import Path
import probe.cli.main as program
from probe.core.jobs import run_jobs

folder = Path(sys.argv[1])

def job(name):
    (folder / f"{os.getpid()}.worker").touch()
    time.sleep(300)

def run(words):
    try:
        run_jobs(job, {"a": "a", "b": "b"}, workers=2, to_arrays=dict, from_arrays=dict)
    except KeyboardInterrupt:
        return 130
    return 0

program.run = run
program.main([])
"""


def _wait(condition: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end and not condition():
        time.sleep(0.1)
    return bool(condition())


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), pytest.param(signal.SIGKILL, -9, marks=pytest.mark.slow)]
)
def test_no_worker_is_left(number: signal.Signals, code: int, tmp_path: Path) -> None:
    with (tmp_path / "stderr").open("w") as stderr:
        run = subprocess.Popen([sys.executable, "-c", SCRIPT, str(tmp_path)], stderr=stderr)
        assert _wait(lambda: len(list(tmp_path.glob("*.worker"))) == 2, 60)
        workers = [int(path.stem) for path in tmp_path.glob("*.worker")]
        assert all(map(_alive, workers))
        run.send_signal(number)
        assert run.wait(timeout=30) == code
    assert _wait(lambda: not any(map(_alive, workers)), 10)
    time.sleep(0.5)  # the trackers end after the workers
    assert (tmp_path / "stderr").read_text() == ""
