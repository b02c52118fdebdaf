"""A training that was stopped goes on to the weights of one that was not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from probe.core.seeds import scoped
from probe.train.loop.fit import Recipe, fit
from probe.train.loop.snapshots import SnapshotFile
from probe.train.loop.watch import Epoch

RECIPE = Recipe(epochs=4, batch_size=4, lr=0.05, schedule="one-cycle", augment=("shift", "flip"))


class Stopped(Exception):
    """What a killed process would be."""


class Noisy:
    """A perturb function with a state: a counter and a generator."""

    def __init__(self) -> None:
        self.calls = 0
        self.generator = torch.Generator().manual_seed(7)

    def __call__(self, module: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        self.calls += 1
        return images + self.calls * 1e-3 * torch.randn(images.shape, generator=self.generator)

    def state(self) -> dict[str, Any]:
        return {"calls": self.calls, "generator": self.generator.get_state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.calls = state["calls"]
        self.generator.set_state(state["generator"])


def network() -> nn.Module:
    with scoped(3, "network"):
        return nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3), nn.LazyLinear(3)
        )


def train(module: nn.Module, path: Path | None, recipe: Recipe, stop: int | None = None) -> tuple[Epoch, ...]:
    draw = torch.Generator().manual_seed(0)
    images, labels = torch.rand(10, 1, 8, 8, generator=draw), torch.randint(0, 3, (10,), generator=draw)
    module(images)
    module.requires_grad_(True)
    steps = 0

    def advance(_: int) -> None:
        nonlocal steps
        steps += 1
        if stop is not None and steps > stop:
            raise Stopped

    return fit(
        module,
        images,
        labels,
        recipe,
        generator=torch.Generator().manual_seed(1),
        perturb=Noisy(),
        advance=advance,
        snapshots=None if path is None else SnapshotFile(path),
    )


def prepared() -> nn.Module:
    """A network whose lazy layer has its weights; batch norm has seen nothing yet."""
    module = network().eval()
    with scoped(4, "lazy"), torch.no_grad():
        module(torch.zeros(2, 1, 8, 8))
    return module.eval()


@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
@pytest.mark.parametrize("stop", [1, 5, 10])
def test_a_stopped_training_goes_on_to_the_same_weights(tmp_path: Path, optimiser: str, stop: int) -> None:
    recipe = Recipe(**{**vars(RECIPE), "optimiser": optimiser})
    whole, parts = prepared(), prepared()
    expected = train(whole, None, recipe)
    path = tmp_path / "state.pt"
    with pytest.raises(Stopped):
        train(parts, path, recipe, stop)
    again = prepared()
    history = train(again, path, recipe)
    assert history == expected
    for name, value in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    # A part is a part: what was stopped is not there yet.
    assert any(not torch.equal(parts.state_dict()[name], value) for name, value in whole.state_dict().items())


def test_a_finished_training_is_not_run_again(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    first = prepared()
    expected = train(first, path, RECIPE)
    again = prepared()
    assert train(again, path, RECIPE, stop=1) == expected  # a single step would be one too many
    assert torch.equal(again.state_dict()["0.weight"], first.state_dict()["0.weight"])


@pytest.mark.parametrize("content", [b"", b"no torch file", None])
def test_a_file_that_cannot_be_read_counts_as_absent(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "state.pt"
    if content is None:
        SnapshotFile(path).save({"epoch": 1, "weights": torch.rand(100)})
        path.write_bytes(path.read_bytes()[:-200])
    else:
        path.write_bytes(content)
    snapshots = SnapshotFile(path)
    assert snapshots.load() is None
    assert snapshots.epochs == 0
    assert SnapshotFile(tmp_path / "none.pt").load() is None


def test_no_code_runs_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    torch.save({"epoch": 1, "bad": Stopped("planted")}, path)
    assert SnapshotFile(path).load() is None


def test_a_failure_while_saving_leaves_the_state_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state.pt"
    snapshots = SnapshotFile(path)
    snapshots.save({"epoch": 1})

    def full(state: object, file: Any) -> None:
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="disk full"):
        snapshots.save({"epoch": 2})
    monkeypatch.undo()
    assert SnapshotFile(path).load() == {"epoch": 1}
    assert [each.name for each in tmp_path.iterdir()] == ["state.pt"]
    snapshots.remove()
    assert not path.exists()
