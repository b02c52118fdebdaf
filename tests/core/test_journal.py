"""The journal: what it keeps, what it forgets, and that nothing broken is ever read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probe.core.journal import NOTHING, FileJournal, Lenient

FACTS = {"model": "resnet18", "epsilons": [0.1, 0.2], "seed": 0}
ARRAYS = {
    "sizes": np.array([0.5, np.inf, np.nan], dtype=np.float32),
    "hit": np.array([True, False]),
    "labels": np.arange(6).reshape(2, 3),
    "none": np.zeros((0, 3)),
}


def journal(root: Path, facts: Any = None, *, resume: bool = True) -> FileJournal:
    return FileJournal(root, FACTS if facts is None else facts, resume=resume)


def only_file(kept: FileJournal) -> Path:
    (file,) = kept.folder.iterdir()
    return file


def test_arrays_come_back_as_they_were(tmp_path: Path) -> None:
    journal(tmp_path).save("batch 3/pgd?steps=3&loss=ce", ARRAYS)
    again = journal(tmp_path)
    found = again.load("batch 3/pgd?steps=3&loss=ce")
    assert found is not None
    assert set(found) == set(ARRAYS)
    for name, array in ARRAYS.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)
    assert again.loaded == 1


def test_keys_do_not_share_and_the_last_saved_counts(tmp_path: Path) -> None:
    kept = journal(tmp_path)
    kept.save("a", {"x": np.array([1])})
    kept.save("b", {"x": np.array([2])})
    kept.save("a", {"x": np.array([3]), "y": np.array([4])})
    assert kept.saved == 3
    first, second = kept.load("a"), kept.load("b")
    assert first is not None
    assert second is not None
    assert {name: array.tolist() for name, array in first.items()} == {"x": [3], "y": [4]}
    assert second["x"].tolist() == [2]
    assert len(list(kept.folder.iterdir())) == 2


def test_what_was_never_saved_is_absent_and_counts_for_nothing(tmp_path: Path) -> None:
    kept = journal(tmp_path)
    assert kept.load("a") is None
    assert kept.loaded == 0
    assert not list(tmp_path.iterdir()), "looking makes no folder"


def test_without_resume_the_earlier_run_is_forgotten(tmp_path: Path) -> None:
    journal(tmp_path).save("a", ARRAYS)
    journal(tmp_path, {"seed": 1}).save("a", ARRAYS)
    assert journal(tmp_path, resume=True).load("a") is not None
    assert journal(tmp_path, resume=False).load("a") is None
    assert journal(tmp_path, resume=True).load("a") is None
    assert journal(tmp_path, {"seed": 1}).load("a") is not None, "another run's parts are not ours to forget"


@pytest.mark.parametrize(
    "other",
    [{**FACTS, "seed": 1}, {**FACTS, "more": None}, {"model": "resnet18", "epsilons": [0.1], "seed": 0}, {}],
)
def test_other_facts_have_another_folder(tmp_path: Path, other: dict[str, Any]) -> None:
    journal(tmp_path).save("a", ARRAYS)
    assert journal(tmp_path, other).folder != journal(tmp_path).folder
    assert journal(tmp_path, other).load("a") is None


def test_order_of_facts_is_no_fact(tmp_path: Path) -> None:
    turned = dict(reversed(FACTS.items()))
    assert list(turned) != list(FACTS)
    assert journal(tmp_path, turned).folder == journal(tmp_path).folder


def test_facts_may_be_more_than_json_knows(tmp_path: Path) -> None:
    one, other = ({"file": Path(name)} for name in ("a.pt", "b.pt"))
    assert journal(tmp_path, one).folder != journal(tmp_path, other).folder


@pytest.mark.parametrize("keep", [0, 1, 3, 30, 0.5, 0.98])
def test_file_cut_short_counts_as_absent_and_can_be_saved_again(tmp_path: Path, keep: float) -> None:
    kept = journal(tmp_path)
    kept.save("a", ARRAYS)
    file = only_file(kept)
    whole = file.read_bytes()
    file.write_bytes(whole[: int(keep * len(whole)) if 0 < keep < 1 else int(keep)])
    assert kept.load("a") is None
    assert kept.loaded == 0
    kept.save("a", ARRAYS)
    assert kept.load("a") is not None


def test_file_of_something_else_counts_as_absent(tmp_path: Path) -> None:
    kept = journal(tmp_path)
    kept.save("a", ARRAYS)
    file = only_file(kept)
    for content in (b"not a zip at all", b"PK\x03\x04" + b"\0" * 200, b"\x80\x04K\x01."):
        file.write_bytes(content)
        assert kept.load("a") is None


def test_one_changed_byte_anywhere_is_noticed_or_does_not_matter(tmp_path: Path) -> None:
    kept = journal(tmp_path)
    kept.save("a", {"x": np.arange(20)})
    file = only_file(kept)
    whole = file.read_bytes()
    absent = 0
    for place in range(len(whole)):
        content = bytearray(whole)
        content[place] ^= 0xFF
        file.write_bytes(bytes(content))
        found = kept.load("a")
        absent += found is None
        if found is not None and set(found) == {"x"}:
            np.testing.assert_array_equal(found["x"], np.arange(20))
    assert absent > 0.8 * len(whole)


def test_lone_array_counts_as_absent(tmp_path: Path) -> None:
    kept = journal(tmp_path)
    kept.save("a", ARRAYS)
    with only_file(kept).open("wb") as file:
        np.save(file, np.arange(3))
    assert kept.load("a") is None


class Trap:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark: str) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (self.mark,)


def test_pickled_arrays_are_refused_and_not_run(tmp_path: Path) -> None:
    kept = journal(tmp_path / "journal")
    kept.save("a", ARRAYS)
    mark = tmp_path / "mark"
    with only_file(kept).open("wb") as file:
        np.savez(file, sizes=np.array([Trap(str(mark))], dtype=object))
    assert kept.load("a") is None
    assert not mark.exists()


def test_failing_save_leaves_what_was_there_and_no_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = journal(tmp_path)
    kept.save("a", {"x": np.array([1])})

    def full(file: Any, **arrays: Any) -> None:
        file.write(b"half of it")
        raise OSError("No space left on device")

    monkeypatch.setattr(np, "savez", full)
    for key in ("a", "b"):
        with pytest.raises(OSError, match="No space"):
            kept.save(key, {"x": np.array([2])})
    monkeypatch.undo()
    found = kept.load("a")
    assert found is not None
    assert found["x"].tolist() == [1]
    assert kept.load("b") is None
    assert len(list(kept.folder.iterdir())) == 1
    assert kept.saved == 1


def test_failing_rename_leaves_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = journal(tmp_path)

    def refuse(*_: Any) -> None:
        raise PermissionError("no")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(PermissionError):
        kept.save("a", ARRAYS)
    assert not list(kept.folder.iterdir())


def test_remove_forgets_everything_and_may_be_repeated(tmp_path: Path) -> None:
    kept = journal(tmp_path)
    kept.save("a", ARRAYS)
    kept.remove()
    kept.remove()
    assert not kept.folder.exists()
    assert kept.load("a") is None


def test_nothing_keeps_nothing() -> None:
    NOTHING.save("a", ARRAYS)
    assert NOTHING.load("a") is None


def test_that_nothing_can_be_written_is_said_once() -> None:
    class Full:
        tried = 0

        def load(self, key: str) -> None:
            return None

        def save(self, key: str, arrays: object) -> None:
            self.tried += 1
            raise OSError(28, "No space left on device")

    said: list[str] = []
    full = Full()
    journal = Lenient(full, said.append)
    for key in "abc":
        journal.save(key, {})
    assert full.tried == 1
    assert len(said) == 1
    assert "No space left" in said[0]
