"""``probe corrupt`` and what ``probe adversarial --corruptions`` makes of its copies."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import probe
from probe.data.preprocess import fit
from probe.data.spec import InputSpec
from tests.helpers.command_lines import run


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two classes of small pictures, and one that is larger than 224 pixels."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name in ("ant/1.png", "ant/2.png", "bee/1.png", "bee/2.png"):
        Path("pictures", name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (32, 40, 3), dtype=np.uint8)).save(Path("pictures", name))
    return tmp_path / "pictures"


def test_writes_every_copy_in_the_layout_and_is_the_same_again(folder: Path) -> None:
    line = "probe corrupt pictures --corruptions fog,contrast --severity 1,4 --format png --out"
    for out in ("one", "two"):
        assert run(f"{line} {out}").code == 0
    names = sorted(str(path.relative_to("one")) for path in Path("one").rglob("*.png"))
    assert len(names) == 2 * 2 * 4
    assert "fog/4/bee/2.png" in names
    for name in names:
        assert Path("one", name).read_bytes() == Path("two", name).read_bytes()
    assert run(f"{line} three --seed 1").code == 0
    assert Path("one/fog/1/ant/1.png").read_bytes() != Path("three/fog/1/ant/1.png").read_bytes()
    clean = np.asarray(Image.open(folder / "ant/1.png")) / 255
    copy = np.asarray(Image.open("one/contrast/4/ant/1.png")) / 255
    mean = clean.mean((0, 1))
    np.testing.assert_allclose(copy, mean + 0.3 * (clean - mean), atol=1.01 / 255)  # CIFAR-10-C's parameter


def test_large_images_are_cropped_as_published_and_saved_as_jpeg(folder: Path) -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (8, 10, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((500, 400), Image.Resampling.BILINEAR).save(folder / "ant/large.png")
    assert run("probe corrupt pictures --corruptions brightness --severity 1 --out new").code == 0
    with Image.open("new/brightness/1/ant/large.JPEG") as found:
        assert found.size == (224, 224)
        assert found.format == "JPEG"
        copy = np.asarray(found) / 255
    with Image.open("new/brightness/1/ant/1.JPEG") as small:
        assert small.size == (40, 32)
    with Image.open(folder / "ant/large.png") as image:
        clean = fit(image.convert("RGB"), InputSpec((3, 224, 224)), framed=False)
    brighter = probe.corrupt(probe.images(clean[None]).get(0, InputSpec())[None], "brightness", severity=1)[0]
    assert np.abs(copy - brighter.permute(1, 2, 0).numpy()).mean() < 0.02


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("nowhere --out new", "There is no folder 'nowhere'"),
        ("pictures/ant --out new", "has no class folders"),
        ("pictures --out pictures", "exists and is not empty"),
        ("pictures --out new --severity 6", "A severity is 1 to 5"),
        ("pictures --out new --corruptions mist", "There is no corruption 'mist'"),
    ],
)
def test_what_cannot_be_done_is_one_line(folder: Path, words: str, message: str) -> None:
    ran = run(f"probe corrupt {words} -q")
    assert ran.code == 2
    assert message in ran.err
    assert len(ran.err.strip().splitlines()) == 1
    assert not Path("new").exists()


def test_two_images_of_one_name_are_refused_and_damaged_ones_skipped(folder: Path) -> None:
    (folder / "ant/1.jpg").write_bytes(b"\xff\xd8\xff nothing")
    ran = run("probe corrupt pictures --out new --corruptions fog --severity 1")
    assert ran.code == 2
    assert "would have one name" in ran.err
    (folder / "ant/1.jpg").rename(folder / "ant/3.jpg")
    ran = run("probe corrupt pictures --out new --corruptions fog --severity 1")
    assert ran.code == 4
    assert "3.jpg" in ran.out
    assert len(list(Path("new").rglob("*.JPEG"))) == 4


def test_copies_are_read_back_with_the_numbers_of_the_corruption_itself(folder: Path) -> None:
    """Contrast has no randomness: reading its copies is the same as making it."""
    common = "probe adversarial -m zoo:lenet --weights none -d pictures --attack pgd --steps 1 --eps 0.01 --views corruption"
    common += " --no-checks --img-size 32 --crop none --format json -q"
    assert run("probe corrupt pictures --corruptions contrast --format png --out copies").code == 0
    found = {}
    for words in ("copies", "contrast"):
        ran = run(f"{common} --corruptions {words} --out {words}-report")
        assert ran.code == 0, ran.err
        found[words] = {
            r["name"]: r["value"] for r in json.loads(ran.out)["results"] if "contrast" in r["name"]
        }
    assert len(found["copies"]) == 6
    pages = {words: Path(f"{words}-report", "report.html").read_text(encoding="utf-8") for words in found}
    assert "read from a folder" in pages["copies"]
    assert "read from a folder" not in pages["contrast"]
    assert found["copies"].keys() == found["contrast"].keys()
    (Path("copies") / "contrast" / "3").rename("gone")
    ran = run(f"{common} --corruptions copies")
    assert ran.code == 2
    assert "lacks the severities 3" in ran.err
