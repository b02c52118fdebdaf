"""Each worker claims a GPU of its own; one whose process has died is free again."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from probe.core.errors import UsageError
from probe.core.gpus import claim, claims
from probe.core.place import Place


@pytest.fixture(autouse=True)
def _environment() -> Iterator[None]:
    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    yield
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    if before is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = before


def test_processes_claim_different_gpus(tmp_path: Path) -> None:
    assert claim(("3", "5"), str(tmp_path)) == "3"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3"
    program = (
        "import os, sys; from probe.core.gpus import claim;"
        "print(claim(('3', '5'), sys.argv[1]), os.environ.get('CUDA_VISIBLE_DEVICES'))"
    )
    said = [
        subprocess.run(
            [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    ]
    # The first one's process has ended, so that the second finds its GPU free.
    assert said == ["5 5\n", "5 5\n"]
    (tmp_path / "5").write_text(str(os.getppid()))
    assert claim(("3", "5"), str(tmp_path)) is None


def test_no_gpus_to_claim() -> None:
    if not torch.cuda.is_available():
        assert claims() == ((), "")
    assert claim((), "") is None


def test_no_more_processes_than_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with Place(8).lend(dict, torch.device("cuda")) as lent:
        assert lent.place.jobs == 2
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with Place(8).lend(dict, torch.device("cuda")) as lent:
        assert lent.packed is None
    with pytest.raises(UsageError, match="--device cpu"), Place(2).lend(dict, torch.device("meta")):
        pass
