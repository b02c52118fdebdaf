"""samples.jsonl, the saved images and the schemas: what is told about each image is what an independent look finds."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
from helpers.cli_networks import MODEL, break_one, logits, make, read, results, samples, values
from PIL import Image

from probe.cli import main as cli
from probe.core.progress import SILENT
from probe.report.results import schema
from probe.train.data import both_parts
from studies.adversarial import attack_run as campaign

FILTERS = ["filters", *MODEL, "-d", "data", "--views", "weights"]
ATTACK = [
    *["adversarial", *MODEL, "-d", "data", "--steps", "5", "--views", "attacks", "--no-checks"],
    "--eps",
    "0.1",
]
TRAIN = ["--epochs", "1", "--seeds", "2", "--jobs", "1", "--train-batch", "4", "--draws", "1"]
ABLATE = ["ablate", *MODEL, "-d", "data", "--remove", "shortcut,norm", *TRAIN]
RUNS = {
    "filters": FILTERS,
    "adversarial": ATTACK,
    "targeted": [*ATTACK, "--target", "bee"],
    "minimum norm": [*ATTACK[:-2], "--norm", "L2", "--attack", "deepfool,pgd", "--eps", "0.01,0.5"],
    "ablate": ABLATE,
    "lesion": [*ABLATE, "--mode", "lesion"],
    "anatomy": ["anatomy", "-m", "net.py:net", "-q"],
    "doctor": ["doctor", *MODEL, "-d", "data", "--steps", "2", "--no-sweep"],
}
LINE = jsonschema.Draft202012Validator(schema("samples"))


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make(tmp_path)


@pytest.mark.parametrize("name", list(RUNS))
def test_every_report_fits_its_published_schema(name: str) -> None:
    assert cli.run([*RUNS[name], "--out", "out"]) == 0
    document = results("out")
    jsonschema.Draft202012Validator(schema()).validate(document)
    assert set(document["artifacts"]) <= {path.name for path in Path("out").iterdir()}
    told = ("samples.jsonl" in document["artifacts"], (Path("out") / "samples.jsonl").exists())
    assert told == ((name not in ("anatomy", "doctor"),) * 2)
    for sample in samples("out") if told[0] else ():
        LINE.validate(sample)


def test_the_schemas_are_schemas_and_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    for words, what in ((["schema"], "results"), (["schema", "samples"], "samples")):
        assert cli.run(words) == 0
        printed = json.loads(capsys.readouterr().out)
        assert printed == schema(what)  # type: ignore[arg-type]
        jsonschema.Draft202012Validator.check_schema(printed)
        assert printed["$id"].startswith("urn:")
        assert printed["description"]
    assert cli.run(["schema", "nothing"]) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"study": "ablation"},
        {"confidence": 1.5},
        {"right": "yes"},
        {"prediction": None},
        {"surprise": 1},
    ],
)
def test_the_schema_of_samples_refuses_what_is_none(change: dict[str, Any]) -> None:
    assert cli.run([*FILTERS, "--out", "out"]) == 0
    sample = samples("out")[0]
    LINE.validate(sample)
    with pytest.raises(jsonschema.ValidationError):
        LINE.validate({**sample, **change})


def test_filters_tell_of_each_image_what_the_network_answers() -> None:
    break_one(Path())
    assert cli.run([*FILTERS, "--out", "out"]) == 4
    told = samples("out")
    assert len({one["image"] for one in told}) == 12
    for one in told:
        found = logits(read(one["image"])[None]).double().softmax(1)[0]
        assert one["prediction"] == int(found.argmax())
        assert one["confidence"] == pytest.approx(float(found.max()), abs=1e-5)
        assert one["label"] == ("ant", "bee", "cat").index(one["image"].split("/")[0])
        assert one["right"] == (one["prediction"] == one["label"])
    assert "ant/broken.png" not in {one["image"] for one in told}
    assert values("out")["accuracy"] == sum(one["right"] for one in told) / 12


def test_attacks_tell_of_each_image_what_the_results_count() -> None:
    assert cli.run([*RUNS["minimum norm"], "--out", "out"]) == 0
    told, counted = samples("out"), values("out")
    assert told[0]["epsilons"] == [0.0, 0.01, 0.5]
    for number, epsilon in enumerate((0.0, 0.01, 0.5)):
        stands = sum(not one["worst"]["success"][number] for one in told)
        assert counted[f"robust_accuracy@{epsilon:g}"] == stands / len(told)
    for attack in ("deepfool", "pgd"):
        stands = sum(not one["attacks"][attack]["success"][-1] for one in told)
        assert counted[f"robust_accuracy:{attack}"] == stands / len(told)
    assert sum(one["prediction"] == one["label"] for one in told) / len(told) == counted["clean_accuracy"]
    for one in told:
        sizes = [way["smallest_epsilon"] for way in one["attacks"].values()]
        known = [math.inf if size is None else size for size in sizes]
        assert one["smallest_epsilon"] == (min(known) if min(known) < math.inf else None)
        if one["worst"]["prediction"] is not None:
            assert one["worst"]["prediction"] != one["label"]
            assert one["worst"]["l2"] <= 0.5 * (1 + 1e-5)


def test_an_attack_says_nothing_of_epsilons_where_it_was_not_tried() -> None:
    assert cli.run([*ATTACK[:-1], "0.001", "--out", "out"]) == 0
    told = samples("out")
    beyond = [number for number, epsilon in enumerate(told[0]["epsilons"]) if epsilon > 0.001]
    assert beyond
    for one in told:
        for way in one["attacks"].values():
            assert all(way["success"][number] in (True, None) for number in beyond)
        assert None not in one["worst"]["success"]


def test_unlabelled_images_have_no_label_but_a_reference() -> None:
    flat = Path("flat")
    flat.mkdir()
    for path in Path("data").rglob("*.png"):
        path.rename(flat / f"{path.parent.name}{path.name}")
    for words in (FILTERS, ATTACK, [*ABLATE, "--mode", "lesion"]):
        words = ["flat" if word == "data" else word for word in words]
        assert cli.run([*words, "--out", "out"]) == 0
        for one in samples("out"):
            LINE.validate(one)
            assert one["label"] is None
            assert one.get("reference", one["prediction"]) == one["prediction"]


def test_ablation_tells_who_is_right_without_and_after_training() -> None:
    parts = both_parts("data", n=None, held_out=0.5, seed=0, offline=True, progress=SILENT)
    kept = [parts.held_out.item_name(index) for index in range(len(parts.held_out))]
    unreadable = Path("data") / kept[0]  # which is seen only when it is read
    unreadable.write_bytes(unreadable.read_bytes()[:100])
    assert cli.run([*ABLATE, "--mode", "both", "--held-out", "0.5", "--out", "out"]) == 4
    told, counted = samples("out"), values("out")
    cut = [one for one in told if one["part"] == "lesions"]
    held = [one for one in told if one["part"] == "held-out"]
    assert len(cut) == 11
    assert [one["image"] for one in held] == kept[1:]
    assert sum(one["right"] for one in cut) / 11 == counted["intact_accuracy"]
    for name in ("shortcut", "norm"):
        right = sum(one["lesions"][name]["right"] for one in cut)
        assert right / 11 == counted[f"lesion_accuracy:{name}:all"]
    for one in cut:
        assert one["label"] == ("ant", "bee", "cat").index(one["image"].split("/")[0])
        assert one["prediction"] == int(logits(read(one["image"])[None]).argmax())
        assert one["right"] == (one["prediction"] == one["label"])
    for arm in ("intact", "shortcut", "norm", "shortcut+norm"):
        rights = [list(one["right"][arm].values()) for one in held]
        assert list(held[0]["right"][arm]) == ["0", "1"]
        assert float(np.mean(rights)) == pytest.approx(counted[f"retrain_accuracy:{arm}"])
    for one in held:
        assert one["label"] == ("ant", "bee", "cat").index(one["image"].split("/")[0])


def test_npz_keeps_the_exact_images_that_the_results_count() -> None:
    assert cli.run([*ATTACK, "--save-images", "npz", "--out", "out"]) == 0
    told = {one["image"]: one for one in samples("out")}
    saved = np.load("out/images/adversarial.npz")
    index = json.loads(Path("out/images/index.json").read_text(encoding="utf-8"))
    broken = {
        name for name, one in told.items() if one["worst"]["success"][-1] and one["smallest_epsilon"] > 0
    }
    assert set(saved["names"].tolist()) == broken
    assert len(broken) == index["n"] > 0
    assert saved["images"].dtype == np.float32
    clean = torch.stack([read(name) for name in saved["names"]])
    sizes = (torch.from_numpy(saved["images"]) - clean).abs().amax((1, 2, 3)).numpy()
    np.testing.assert_allclose(sizes, saved["epsilons"], atol=1e-7)
    assert sizes.max() <= 0.1 + 1e-6
    answers = logits(saved["images"])
    for row, name in enumerate(saved["names"].tolist()):
        worst = told[name]["worst"]
        assert int(answers[row].argmax()) == worst["prediction"] == saved["predictions"][row]
        assert worst["prediction"] != saved["labels"][row] == told[name]["label"]
        assert float(answers[row].double().softmax(0).max()) == pytest.approx(worst["confidence"], abs=1e-4)
        assert worst["linf"] == pytest.approx(float(sizes[row]), abs=1e-7)
    assert set(results("out")["artifacts"]) == {
        "samples.jsonl",
        "images/adversarial.npz",
        "images/index.json",
    }


@pytest.mark.parametrize(("norm", "epsilon", "order"), [("Linf", 0.1, math.inf), ("L2", 1.0, 2)])
def test_png_says_what_rounding_did(norm: str, epsilon: float, order: float) -> None:
    words = [*ATTACK[:-1], f"{epsilon}", "--norm", norm, "--save-images", "png", "--out", "out"]
    assert cli.run(words) == 0
    index = json.loads(Path("out/images/index.json").read_text(encoding="utf-8"))
    standing = outside = 0
    for row in index["images"]:
        name = row["file"].removeprefix("images/")
        assert name.isascii()
        assert not set(name) & set(' :*?"<>|/\\')
        assert f"-{norm}-{row['epsilon']:.4g}" in name
        pixels = np.asarray(Image.open(Path("out") / row["file"])).copy()
        image = torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
        answer = int(logits(image[None]).argmax())
        size = float(torch.linalg.vector_norm(image - read(row["image"]), order))
        assert row["rounded"]["prediction"] == answer
        assert row["rounded"]["adversarial"] == (answer != row["reference"])
        assert row["rounded"]["epsilon"] == pytest.approx(size, abs=1e-6)
        assert row["rounded"]["inside"] == (size <= epsilon * (1 + 1e-5))
        standing += answer != row["reference"]
        outside += size > epsilon * (1 + 1e-5)
    assert (index["still_adversarial"], index["outside_the_ball"]) == (standing, outside)
    assert values("out")["adversarial_after_rounding"] == standing / index["n"]
    listed = {name for name in results("out")["artifacts"] if name.startswith("images/")}
    assert listed == {f"images/{path.name}" for path in Path("out/images").iterdir()}
    assert len(listed) == index["n"] + 1
    assert any("after rounding to 8 bit" in line for line in results("out")["headline"])


def test_a_later_report_in_the_same_place_leaves_none_of_the_earlier_images() -> None:
    assert cli.run([*ATTACK, "--save-images", "png", "--out", "out"]) == 0
    (Path("out/images") / "mine.txt").write_text("a file of the user")
    assert cli.run([*ATTACK, "--save-images", "npz", "--out", "out"]) == 0
    assert {p.name for p in Path("out/images").iterdir()} == {"adversarial.npz", "index.json", "mine.txt"}
    assert cli.run(["anatomy", "-m", "net.py:net", "-q", "--out", "out"]) == 0
    assert {p.name for p in Path("out/images").iterdir()} == {"mine.txt"}
    assert not Path("out/samples.jsonl").exists()


def test_an_interrupted_run_saves_the_same_images(monkeypatch: pytest.MonkeyPatch) -> None:
    words = [*ATTACK, "--save-images", "npz", "-b", "4"]
    assert cli.run([*words, "--out", "straight"]) == 0
    batch, made = campaign.AttackRun._batch, []

    def stopping(self: Any, *arguments: Any) -> Any:
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(1)
        return batch(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(campaign.AttackRun, "_batch", stopping)
        assert cli.run([*words, "--out", "cut"]) == 130
    assert cli.run([*words, "--out", "resumed", "--resume"]) == 0
    for name in ("images/adversarial.npz", "images/index.json", "samples.jsonl"):
        assert (Path("straight") / name).read_bytes() == (Path("resumed") / name).read_bytes()
