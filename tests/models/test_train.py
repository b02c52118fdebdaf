"""Training and keeping networks: small ones on few images; the promise of robustness is kept in a slow test."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.recording_console import Console
from helpers.weight_files import Net, random_state, sha256
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from probe.attacks.norms import L2, Linf, Norm
from probe.core import seeds
from probe.core.errors import CannotRunError, UsageError
from probe.core.state import fingerprint
from probe.core.stats import wilson
from probe.data.load import load_images
from probe.models.load import load_model
from probe.models.loaded import LoadedModel
from probe.models.weights.cache import write_state
from probe.models.weights.record import read_record
from probe.train import trainer as training
from probe.train.adversarial import (
    Adversary,
    Passes,
    Perturbing,
    adversary,
    count_robust,
    no_adversary,
    radius,
    worst_nearby,
)
from probe.train.data import both_parts, split_indices
from probe.train.loop.evaluation import count_correct
from probe.train.setup import RecipeOptions
from probe.train.trained_file import TrainedNetwork, recipe_file
from probe.train.trainer import TrainOptions, train

QUICK = TrainOptions(RecipeOptions(epochs=2, batch_size=32), n=120, device="cpu", offline=True)
AGAINST = replace(QUICK, adversarial="pgd", epsilon="0.1", steps=2)
TINY = "zoo:resnet?depth=8&in_channels=1"


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("trained")


@pytest.fixture(scope="module")
def robust(folder: Path) -> tuple[TrainedNetwork, Console]:
    """A lenet trained against an adversary, once for this module's tests."""
    console = Console()
    return train("lenet", "digits", replace(AGAINST, out=folder / "robust.safetensors"), console), console


@pytest.fixture
def loaded(robust: tuple[TrainedNetwork, Console]) -> LoadedModel:
    return load_model("lenet", weights=robust[0].path, device="cpu")


# The search


@pytest.mark.parametrize("norm", [Linf(), L2()], ids=lambda norm: norm.name)
@pytest.mark.parametrize("epsilon", [0.05, 0.7])
def test_the_search_stays_in_the_ball_and_leaves_the_network_alone(
    net: Net, norm: Norm, epsilon: float
) -> None:
    net.train()
    net.conv.eval()
    before = fingerprint(net)
    images = torch.rand(6, 3, 8, 8, generator=generator())
    labels = torch.arange(6) % 3
    found = worst_nearby(net, images, labels, Adversary(norm, epsilon, 5), generator(1))
    assert fingerprint(net) == before
    assert not found.requires_grad
    assert found.min() >= 0
    assert found.max() <= 1
    delta = (found - images).flatten(1).double().numpy()
    sizes = np.abs(delta).max(1) if norm.name == "Linf" else np.sqrt((delta**2).sum(1))
    assert (sizes <= epsilon + 1e-6).all()
    assert (sizes > epsilon / 10).all()
    net.eval()
    assert F.cross_entropy(net(found), labels) > F.cross_entropy(net(images), labels)


def test_the_search_against_a_float64_loop(net: Net) -> None:
    """The same start, then Madry's steps written out again with numpy's clip."""
    net.double().eval()
    images = torch.rand(4, 3, 6, 6, generator=generator(), dtype=torch.float64)
    labels = torch.tensor([0, 1, 2, 0])
    epsilon, steps = 0.1, 3
    expected = Linf().start(images, epsilon, generator(2)).numpy()
    low, high = np.clip(images.numpy() - epsilon, 0, 1), np.clip(images.numpy() + epsilon, 0, 1)
    for _ in range(steps):
        x = torch.tensor(expected, requires_grad=True)
        F.cross_entropy(net(x), labels).backward()
        assert x.grad is not None
        expected = np.clip(expected + 2.5 * epsilon / steps * np.sign(x.grad.numpy()), low, high)
    net.zero_grad()
    found = worst_nearby(net, images, labels, Adversary(Linf(), epsilon, steps), generator(2))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)


def test_an_exception_inside_the_search_restores_the_network(net: Net) -> None:
    net.train()
    before = fingerprint(net)
    with pytest.raises(IndexError):
        worst_nearby(net, torch.rand(2, 3, 8, 8), torch.tensor([0, 7]), Adversary(steps=1), generator())
    assert fingerprint(net) == before


def test_the_radius_grows_in_a_straight_line_and_the_steps_with_it() -> None:
    perturb = Perturbing(Adversary(epsilon=0.2, steps=7, warm_up=0.5), 20, generator(), Passes())
    module, images, labels = nn.Flatten(), torch.full((2, 3, 1, 1), 0.5), torch.tensor([0, 1])
    seen = []
    for _ in range(14):
        now = perturb.current()
        seen.append((0.0, 0) if now is None else (now.epsilon, now.steps))
        moved = perturb(module, images, labels)
        assert float((moved - images).abs().max()) <= seen[-1][0] + 1e-6
    assert [round(epsilon, 6) for epsilon, _ in seen[:11]] == [round(0.02 * k, 6) for k in range(11)]
    assert seen[10:] == [(0.2, 7)] * 4
    assert [steps for _, steps in seen[:11]] == [0, 1, 2, 3, 3, 4, 5, 5, 6, 7, 7]


def test_without_warm_up_the_radius_is_full_at_once() -> None:
    full = Adversary(warm_up=0.0)
    assert Perturbing(full, 20, generator(), Passes()).current() == full


def test_robust_accuracy_of_a_linear_classifier_in_closed_form() -> None:
    """A linear margin can be lowered by at most epsilon times the L1 norm of the difference of the rows."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator(4)))
    images = 0.3 + 0.4 * torch.rand(60, 3, 2, 2, generator=generator())
    weight, bias = (parameter.detach().double().numpy() for parameter in module.parameters())
    labels = torch.arange(60) % 2
    sign = np.where(labels.numpy() == 1, 1.0, -1.0)
    margins = sign * (images.flatten(1).double().numpy() @ (weight[1] - weight[0]) + bias[1] - bias[0])
    epsilon = float(np.median(margins[margins > 0])) / np.abs(weight[1] - weight[0]).sum()
    assert epsilon < 0.3
    expected = int((margins > epsilon * np.abs(weight[1] - weight[0]).sum()).sum())
    against = Adversary(epsilon=epsilon, steps=4)
    assert count_robust(module, images, labels, against, generator(), Passes(), batch_size=7) == expected
    assert 0 < expected < (margins > 0).sum()


# The words


@pytest.mark.parametrize(
    ("text", "value"), [("0.2", 0.2), ("8/255", 8 / 255), ("1e-2", 0.01), (" 4 / 255 ", 4 / 255)]
)
def test_radii(text: str, value: float) -> None:
    assert radius(text, Linf()) == value


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("8", "Did you mean 8/255"),
        ("1", "below 1"),
        ("300", "more than the whole range"),
        ("500/255", "more than the whole range"),
        ("0", "above 0"),
        ("0.1,0.2", "single radius"),
        ("-0.1", "at least 0"),
        ("nan", "finite"),
        ("inf", "finite"),
        ("1/0", "0.2 or 8/255"),
        ("8/255/2", "0.2 or 8/255"),
        ("much", "0.2 or 8/255"),
    ],
)
def test_radii_that_have_no_meaning(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        radius(text, Linf())


def test_the_adversary_that_words_mean() -> None:
    assert adversary(None, None, None, "digits") == Adversary(Linf(), 0.2, 7)
    assert adversary(None, None, None, "unknown").epsilon == 8 / 255
    assert adversary("l2", "2", 3, "digits") == Adversary(L2(), 2.0, 3)
    for words, says in (
        (("L1", "1", None), "--norm Linf or L2"),
        (("L2", None, None), "--eps"),
        ((None, None, 0), "at least 1 step"),
        (("Lx", None, None), "no norm 'Lx'"),
    ):
        with pytest.raises(UsageError, match=says):
            adversary(*words, "digits")
    no_adversary(None, None, None)
    with pytest.raises(UsageError, match="--eps is an option of adversarial training: add --adversarial"):
        no_adversary(None, "0.1", None)


# The data


def test_digits_keep_their_own_split() -> None:
    parts = both_parts("digits", n=100, held_out=None, seed=3, offline=True, progress=Console())
    assert (parts.name, parts.domain, len(parts.training), len(parts.held_out)) == (
        "digits",
        "digits",
        100,
        359,
    )
    names = [{one.item_name(i) for i in range(len(one))} for one in (parts.training, parts.held_out)]
    assert not names[0] & names[1]
    again = both_parts("digits-train", n=None, held_out=None, seed=0, offline=True, progress=Console())
    assert (again.name, len(again.training), len(again.held_out)) == ("digits", 1438, 359)
    with pytest.raises(UsageError, match="--held-out"):
        both_parts("digits", n=None, held_out=0.1, seed=0, offline=True, progress=Console())


def test_splits_are_stratified_disjoint_and_by_seed() -> None:
    labels = [0] * 50 + [1] * 30 + [2] * 10 + [3]
    learn, measure = split_indices(labels, 0.2, 5)
    assert sorted(learn + measure) == list(range(91))
    counts = np.bincount([labels[i] for i in measure], minlength=4)
    assert counts.tolist() == [10, 6, 2, 0]
    assert split_indices(labels, 0.2, 5) == (learn, measure)
    assert split_indices(labels, 0.2, 6) != (learn, measure)
    for share in (0.0, 0.6, -1.0, float("nan")):
        with pytest.raises(UsageError, match=r"at most 0\.5"):
            split_indices(labels, share, 0)
    for sizes in ([2, 2], [3, 3], [2, 7, 1]):
        small = [label for label, count in enumerate(sizes) for _ in range(count)]
        learn, _ = split_indices(small, 0.5, 0)
        assert {small[i] for i in learn} == set(small)


def pictures(root: Path, classes: int = 2, each: int = 10) -> Path:
    """Class folders of pictures that differ in brightness."""
    rng = np.random.default_rng(0)
    for label in range(classes):
        (root / f"kind {label}").mkdir(parents=True)
        for number in range(each):
            pixels = rng.integers(0, 60, (12, 12, 3)) + 190 * label // max(1, classes - 1)
            Image.fromarray(pixels.astype(np.uint8)).save(root / f"kind {label}" / f"{number}.png")
    return root


def test_a_folder_of_classes(tmp_path: Path) -> None:
    root = pictures(tmp_path / "pictures")
    (root / "kind 0" / "broken.png").write_bytes((root / "kind 0" / "0.png").read_bytes()[:60])
    options = replace(QUICK, n=None, img_size=(32, 32), held_out=0.3, out=tmp_path / "kinds.safetensors")
    done = train("zoo:resnet?depth=8", str(root), options)
    assert 4 <= done.record.score.n <= 6
    assert done.images + done.record.score.n + len(done.skipped) >= 21
    assert [one.name for one in done.skipped] == ["kind 0/broken.png"]
    assert "broken.png" in done.headline[-1]
    model = load_model("zoo:resnet?depth=8", weights=done.path, device="cpu")
    assert (model.num_classes, model.class_names, model.domain) == (2, ("kind 0", "kind 1"), "unknown")
    assert any("not accuracy on held-out images" in note for note in model.provenance.notes)


def test_data_that_cannot_be_learned(tmp_path: Path) -> None:
    flat = pictures(tmp_path / "pictures") / "kind 0"
    with pytest.raises(UsageError, match="have no labels: give a folder"):
        train("lenet", str(flat), replace(QUICK, out=tmp_path / "x.safetensors"))
    single = pictures(tmp_path / "single", each=1)
    with pytest.raises(UsageError, match="two images each"):
        train("lenet", str(single), replace(QUICK, out=tmp_path / "x.safetensors"))
    assert not list(tmp_path.glob("*.safetensors"))


# What is trained and kept


def test_what_is_said_and_kept(robust: tuple[TrainedNetwork, Console]) -> None:
    done, console = robust
    score = done.record.score
    low, high = wilson(score.correct, 359)
    assert f"{score.correct} of 359, 95% interval {100 * low:.1f} to {100 * high:.1f}%" in done.headline[0]
    assert "Linf 0.1" in done.headline[1]
    assert "of 200" in done.headline[1]
    assert "probe adversarial" in done.headline[1]
    label, total, units = next(task for task in console.tasks if "Training" in str(task[0]))
    assert (label, total, units) == ("Training lenet on digits", 240, 240)
    with safe_open(done.path, "pt") as file:
        metadata = file.metadata()
    assert metadata["format"] == "probe weights"
    assert metadata["model"] == "zoo:lenet"
    assert json.loads(metadata["adversary"])["epsilon"] == 0.1
    assert json.loads(metadata["recipe"])["epochs"] == 2
    assert json.loads(metadata["environment"])["torch"] == version("torch")
    assert (metadata["seed"], metadata["images"]) == ("0", "120")
    readable = json.loads(recipe_file(done.path).read_text(encoding="utf-8"))
    assert readable["held_out"] == {"correct": score.correct, "n": 359}
    assert len(readable["history of the images trained on"]) == 2
    assert {path.name for path in done.path.parent.iterdir()} == {"robust.safetensors", "robust.recipe.json"}


def test_the_file_brings_its_input_and_its_story(
    robust: tuple[TrainedNetwork, Console], loaded: LoadedModel
) -> None:
    done = robust[0]
    assert loaded.input == done.record.framing.input
    assert loaded.module.normalise.mean.flatten().tolist() == [0.5]
    assert (loaded.class_names, loaded.domain) == (tuple("0123456789"), "digits")
    assert loaded.provenance.sha256 == sha256(done.path)
    score = done.record.score
    accuracy = f"{100 * score.correct / 359:.1f}% accuracy on 359 held-out images"
    for text in ("on digits, adversarially (Linf 0.1)", accuracy):
        assert text in loaded.provenance.weights
        assert text in " ".join(loaded.provenance.notes)
    images = load_images("digits")
    batch = next(images.batches(loaded.input, 359))
    assert batch.labels is not None
    assert count_correct(loaded.module, batch.images, batch.labels) == score.correct
    moved = load_model("lenet", weights=done.path, mean=0.1, device="cpu")
    assert any("--mean and --std were ignored" in note for note in moved.provenance.notes)
    assert torch.equal(moved.module.normalise.mean, loaded.module.normalise.mean)


def test_the_robust_count_is_found_again(robust: tuple[TrainedNetwork, Console], loaded: LoadedModel) -> None:
    """On the plain module, with another start and a step of another loop."""
    told = robust[0].record.robust
    assert told is not None
    batch = next(load_images("digits").batches(loaded.input, 359))
    assert batch.labels is not None
    found = count_robust(
        loaded.module, batch.images, batch.labels, Adversary(epsilon=0.1, steps=20), generator(9), Passes()
    )
    low, high = wilson(told.correct, told.n)
    assert low - 0.05 <= found / 359 <= high + 0.05


@pytest.mark.parametrize("options", [QUICK, AGAINST], ids=["plain", "adversarial"])
def test_the_same_seed_gives_the_same_tensors(
    tmp_path: Path, options: TrainOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "ROBUST_IMAGES", 4)
    quick = replace(options, n=64, recipe=RecipeOptions(epochs=1, batch_size=32), steps=options.steps and 1)
    states = (torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate())
    files = [
        train(TINY, "digits", replace(quick, seed=seed, out=tmp_path / f"{number}.safetensors")).path
        for number, seed in enumerate((0, 0, 1))
    ]
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1] == states[1]).all()
    assert random.getstate() == states[2]
    first, second, other = map(load_file, files)
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not torch.equal(first["conv1.weight"], other["conv1.weight"])


def test_the_users_words_on_input_and_recipe(tmp_path: Path) -> None:
    words = RecipeOptions(
        epochs=1,
        batch_size=16,
        optimiser="sgd",
        lr=0.01,
        weight_decay=0.0,
        schedule="cosine",
        label_smoothing=0.1,
    )
    options = replace(
        QUICK, recipe=words, n=40, img_size=(16, 24), mean=(0.1,), std=(0.2,), out=tmp_path / "w.safetensors"
    )
    done = train(TINY, "digits", options)
    assert {key: getattr(done.recipe, key) for key in words.options()} == words.options()
    model = load_model(TINY, weights=done.path, device="cpu")
    assert model.input.size == (1, 16, 24)
    assert model.module.normalise.mean.flatten().tolist() == pytest.approx([0.1])
    assert model.module.normalise.std.flatten().tolist() == pytest.approx([0.2])
    assert load_model(TINY, weights=done.path, img_size=20, device="cpu").input.size == (1, 20, 20)
    wrongs = ({"lr": float("nan")}, {"label_smoothing": 1.0}, {"lr": 0.0}, {"optimiser": "adam"})
    for wrong in (RecipeOptions(**words) for words in wrongs):
        with pytest.raises(UsageError):
            train(TINY, "digits", replace(options, recipe=wrong, force=True))
    with pytest.raises(UsageError, match="--mean has 2 values"):
        train(TINY, "digits", replace(options, mean=(0.1, 0.2), force=True))


def test_a_file_is_not_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "_train_and_measure", lambda *_: pytest.fail("trained for nothing"))
    taken = tmp_path / "net.safetensors"
    taken.write_bytes(b"kept")
    with pytest.raises(UsageError, match="--force"):
        train("lenet", "digits", replace(QUICK, out=taken))
    assert taken.read_bytes() == b"kept"
    recipe_file(taken).write_text("{}")
    taken.unlink()
    with pytest.raises(UsageError, match=r"net\.recipe\.json already exists"):
        train("lenet", "digits", replace(QUICK, out=taken))
    with pytest.raises(UsageError, match=r"write --out .*net2\.safetensors"):
        train("lenet", "digits", replace(QUICK, out=tmp_path / "net2.pt"))
    with pytest.raises(CannotRunError, match="not a writable folder"):
        train("lenet", "digits", replace(QUICK, out=tmp_path / "net.recipe.json" / "x.safetensors"))


def test_the_default_name_says_what_is_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    quick = replace(QUICK, n=32, recipe=RecipeOptions(epochs=1))
    assert train("lenet?pooling=average", "digits", quick).path == Path(
        "lenet-pooling-average-digits.safetensors"
    )
    small = replace(AGAINST, n=32, recipe=RecipeOptions(epochs=1), steps=1)
    assert train("lenet", "digits", small).path == Path("lenet-digits-adversarial.safetensors")


@pytest.mark.parametrize("error", [RuntimeError("inside"), KeyboardInterrupt()])
@pytest.mark.parametrize("where", ["worst_nearby", "count_robust", "write"])
def test_whatever_fails_no_file_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, where: str
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    place = {
        "worst_nearby": "probe.train.adversarial.worst_nearby",
        "count_robust": "probe.train.trainer.count_robust",
        "write": "os.replace",
    }[where]
    monkeypatch.setattr(place, fails)
    small = replace(AGAINST, n=32, recipe=RecipeOptions(epochs=1, batch_size=16), steps=1)
    with pytest.raises(type(error)):
        train("lenet", "digits", replace(small, out=tmp_path / "x.safetensors"))
    assert list(tmp_path.iterdir()) == []


def test_networks_that_cannot_have_the_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(
        "from torch import nn\n"
        "def net():\n    return nn.Sequential(nn.Conv2d(1, 4, 8, 8), nn.Flatten(), nn.Linear(256, 4))\n"
    )
    with pytest.raises(UsageError, match="4 classes, but digits has 10"):
        train("net.py:net", "digits", replace(QUICK, out=tmp_path / "x.safetensors"))
    with pytest.raises(UsageError, match="nosuchnet"):
        train("nosuchnet", "digits", QUICK)


# Files of others


def metadata(robust: TrainedNetwork) -> dict[str, str]:
    return robust.record.metadata()


def test_a_record_is_read_as_it_was_written(robust: tuple[TrainedNetwork, Console]) -> None:
    assert read_record(metadata(robust[0])) == (robust[0].record, "")
    assert read_record({}) == (None, "")
    assert read_record({"format": "pt"}) == (None, "")


HOSTILE = {
    "input": [
        "",
        "[" * 100_000,
        "{}",
        "[1]",
        '{"size": [1, 100000, 100000], "crop": 1, "interpolation": "bilinear"}',
        '{"size": [2, 32, 32], "crop": 1, "interpolation": "bilinear"}',
        '{"size": [true, 32, 32], "crop": 1, "interpolation": "bilinear"}',
        '{"size": [1, 32, 32], "crop": 1e-9, "interpolation": "bilinear"}',
        '{"size": [1, 32, 32], "crop": 1, "interpolation": ["bilinear"]}',
        '{"size": "132", "crop": 1, "interpolation": "bilinear"}',
        "x" * 2_000_000,
    ],
    "mean": ["[NaN]", "[1e999]", '["0.5"]', "[0.5, 0.5]", "0.5", "[1" + "0" * 5000 + "]"],
    "std": ["[0]", "[-1]", "[Infinity]", "null"],
    "classes": ["[]", "[1, 2]", json.dumps(["x"] * 20_000), '"0123456789"', "null"],
    "held_out": ['{"correct": 9, "n": 3}', '{"correct": 1.5, "n": 3}', '{"correct": 0, "n": 0}', "[]", "7"],
    "robust": ['{"correct": 1, "n": 3, "norm": "L9", "epsilon": 1}', '{"correct": 1, "n": 3}', "1"],
    "built_for": ["[0, 3]", "[32]", "5", "[4096, 4096]"],
}


@pytest.mark.parametrize(
    ("key", "text"), [(k, t) for k, texts in HOSTILE.items() for t in texts], ids=lambda x: x[:20]
)
def test_hostile_metadata_is_ignored_with_a_reason(
    robust: tuple[TrainedNetwork, Console], key: str, text: str
) -> None:
    record, why = read_record({**metadata(robust[0]), key: text})
    assert record is None
    assert why
    assert len(why) <= 120


def test_missing_keys_are_ignored_with_a_reason(robust: tuple[TrainedNetwork, Console]) -> None:
    whole = metadata(robust[0])
    for key in whole.keys() - {"format", "robust"}:
        record, why = read_record({name: text for name, text in whole.items() if name != key})
        assert record is None
        assert key in why


def test_names_are_made_fit_to_be_shown(robust: tuple[TrainedNetwork, Console]) -> None:
    odd = {
        **metadata(robust[0]),
        "data": "\x1b[31mred\n" + "x" * 500,
        "domain": "imagenet",
        "classes": json.dumps(["\x07", *"123456789"]),
    }
    record, _ = read_record(odd)
    assert record is not None
    assert record.data.isprintable()
    assert len(record.data) <= 120
    assert record.domain == "unknown"
    assert record.class_names[0] == "\\x07"


def written(tmp_path: Path, state: dict[str, Tensor], facts: dict[str, str]) -> Path:
    write_state(tmp_path / "theirs.safetensors", state, facts)
    return tmp_path / "theirs.safetensors"


def test_a_file_with_a_hostile_record_is_loaded_as_any_other(
    tmp_path: Path, robust: tuple[TrainedNetwork, Console]
) -> None:
    state = load_file(robust[0].path)
    for key, text in (("input", "[" * 100_000), ("mean", "[NaN]")):
        path = written(tmp_path, state, {**metadata(robust[0]), key: text})
        model = load_model("lenet", weights=path, device="cpu")
        assert any("cannot be used and was ignored" in note for note in model.provenance.notes)
        assert model.domain == "unknown"
        assert "trained by probe" not in model.provenance.weights
    colour = {
        "input": json.dumps({"size": [3, 32, 32], "crop": 1.0, "interpolation": "bilinear"}),
        "mean": "[0, 0, 0]",
        "std": "[1, 1, 1]",
    }
    model = load_model(
        "lenet", weights=written(tmp_path, state, {**metadata(robust[0]), **colour}), device="cpu"
    )
    assert model.input.size == (1, 32, 32)
    assert any("3 channels" in note for note in model.provenance.notes)


def test_another_network_than_recorded(tmp_path: Path, robust: tuple[TrainedNetwork, Console]) -> None:
    model = load_model("lenet?pooling=average", weights=robust[0].path, device="cpu")
    assert any("was written for zoo:lenet" in note for note in model.provenance.notes)
    with pytest.raises(CannotRunError, match="does not fit zoo:resnet20"):
        load_model("zoo:resnet20", weights=robust[0].path, device="cpu")


def test_files_without_a_record_are_as_before(tmp_path: Path, net: Net) -> None:
    from probe.models.zoo.lenet import LeNet

    path = written(tmp_path, random_state(LeNet()), {})
    model = load_model("lenet", weights=path, device="cpu")
    assert model.provenance.weights == "from the file theirs.safetensors"
    assert (model.domain, model.class_names) == ("unknown", None)


# The promise


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.filterwarnings("ignore:Converting a tensor:UserWarning")
def test_adversarial_training_gains_twenty_points(tmp_path: Path) -> None:
    """The default recipes of resnet20 on digits under torchattacks' APGD, 40 steps, at Linf 0.2."""
    from torchattacks import APGD

    found: dict[str | None, tuple[int, int]] = {}
    batch = None
    for adversarial in (None, "pgd"):
        options = TrainOptions(
            adversarial=adversarial, device="cpu", out=tmp_path / f"{adversarial}.safetensors"
        )
        done = train("zoo:resnet20", "digits", options)
        print(*done.headline, f"{done.seconds:.0f} s")
        model = load_model("zoo:resnet20", weights=done.path, device="cpu")
        batch = batch or next(load_images("digits", n=100).batches(model.input, 100))
        assert batch.labels is not None
        with seeds.scoped(0, "apgd"):
            attacked = APGD(model.module, norm="Linf", eps=0.2, steps=40, loss="ce")(
                batch.images, batch.labels
            )
        assert float((attacked - batch.images).abs().max()) <= 0.2 + 1e-5
        right = model.logits(batch.images).argmax(1) == batch.labels
        kept = right & (model.logits(attacked).argmax(1) == batch.labels)
        found[adversarial] = (int(right.sum()), int(kept.sum()))
        print(f"adversarial={adversarial}: clean, robust of 100: {found[adversarial]}")
    assert found["pgd"][1] - found[None][1] >= 20
    assert found["pgd"][0] >= 85
