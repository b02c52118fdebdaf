"""Pictures that are deleted, cut short or replaced while a study runs: named and left out, and the rest is shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from probe.cli.main import run
from probe.data.images import ImageSet
from probe.data.load import load_images
from probe.data.spec import InputSpec, UnreadableError
from tests.helpers import cli_networks

SPEC = InputSpec((3, 16, 16), 1.0, "bilinear")
PICTURE = Path("data/bee/1.png")


def deleted() -> None:
    PICTURE.unlink()


def truncated() -> None:
    PICTURE.write_bytes(PICTURE.read_bytes()[:60])


def replaced() -> None:
    Image.new("RGB", (16, 16), "red").save(PICTURE)


CHANGES = (deleted, truncated, replaced)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    cli_networks.make(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("change", CHANGES)
def test_a_picture_that_changes_is_skipped_by_name(folder: Path, change: Callable[[], None]) -> None:
    images = load_images("data")
    assert images.readable(range(12), SPEC) == tuple(range(12))
    change()
    with pytest.raises(UnreadableError):
        images.get(5, SPEC)
    assert images.readable(range(12), SPEC) == tuple(i for i in range(12) if i != 5)
    assert [item.name for item in images.skipped] == ["bee/1.png"]
    assert sum(len(batch.indices) for batch in images.batches(SPEC, 4)) == 11


@pytest.mark.parametrize(
    "words",
    [
        ["filters", "--views", "activations,patches,attribution"],
        ["adversarial", "--eps", "0.1", "--attack", "fgsm", "--save-images", "png"],
        ["ablate", "--remove", "norm", "--mode", "lesion"],
    ],
)
@pytest.mark.parametrize("change", [deleted, replaced])
def test_the_rest_of_a_study_is_shown(
    folder: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], change: Callable[[], None]
) -> None:
    whole = ImageSet.batches
    passes = []

    def batches(self: ImageSet, *args: object, **how: object) -> object:
        try:
            yield from whole(self, *args, **how)  # type: ignore[arg-type]
        finally:
            if not passes:
                change()
            passes.append(1)

    monkeypatch.setattr(ImageSet, "batches", batches)
    code = run([*words[:1], *cli_networks.MODEL, "-d", "data", "--out", "out", *words[1:]])
    results = json.loads(Path("out/results.json").read_text())
    assert results["data"]["n"] == 12
    assert results["status"] != "incomplete"
    if words[0] == "ablate":  # it keeps the images, and need not notice
        assert code in (0, 4)
    else:
        assert code == 4
        assert [item["name"] for item in results["data"]["skipped"]] == ["bee/1.png"]


@pytest.mark.parametrize(("kept", "caution"), [(("ant",), True), (("ant", "bee"), False)])
def test_a_folder_of_one_class_is_said_to_be_one(folder: Path, kept: tuple[str, ...], caution: bool) -> None:
    for name in ("ant", "bee", "cat"):
        if name not in kept:
            for picture in (folder / "data" / name).iterdir():
                picture.unlink()
    words = ["filters", *cli_networks.MODEL, "-d", "data", "--views", "weights", "--out", "out"]
    assert run(words) == 0
    warnings = " ".join(json.loads(Path("out/results.json").read_text())["warnings"])
    assert ("one class" in warnings) is caution
