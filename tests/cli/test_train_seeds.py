"""``probe train --seeds``: a file for each seed, with the weights of a training of that seed alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from probe.core.errors import UsageError
from probe.train.setup import RecipeOptions
from probe.train.several import seeds_headline, train_seeds
from probe.train.trainer import TrainOptions, train

OPTIONS = TrainOptions(recipe=RecipeOptions(epochs=1), n=64, seed=3, device="cpu", offline=True)


def test_networks_trained_side_by_side_are_those_trained_alone(tmp_path: Path, own_cache: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        alone = train("zoo:lenet", "digits", replace(OPTIONS, seed=4, out=tmp_path / "alone.safetensors"))
    finally:
        torch.set_num_threads(threads)
    wanted = replace(OPTIONS, out=tmp_path / "net.safetensors")
    found = train_seeds("zoo:lenet", "digits", wanted, 2, jobs=2)
    assert [one.path.name for one in found] == ["net.seed3.safetensors", "net.seed4.safetensors"]
    assert [one.seed for one in found] == [3, 4]
    mine, other = load_file(alone.path), load_file(found[1].path)
    assert all(torch.equal(mine[key], other[key]) for key in mine)
    assert found[1].record.score == alone.record.score
    assert any(not torch.equal(mine[key], tensor) for key, tensor in load_file(found[0].path).items())
    lines = seeds_headline(found)
    assert "Mean of 2 seeds" in lines[-1]
    mean = sum(one.record.score.correct for one in found) / sum(one.record.score.n for one in found)
    assert f"{100 * mean:.3g}%" in lines[-1]
    with pytest.raises(UsageError, match="already exists"):
        train_seeds("zoo:lenet", "digits", wanted, 2, jobs=2)


def test_finished_trainings_are_not_made_again(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = replace(OPTIONS, out=tmp_path / "net.safetensors")
    made: list[int] = []

    def once(model: str, data: str, options: TrainOptions) -> object:
        if options.seed == 5 and len(made) == 2:
            made.append(0)
            raise KeyboardInterrupt
        made.append(options.seed)
        return train(model, data, options)

    monkeypatch.setattr("probe.train.several.train", once)
    with pytest.raises(KeyboardInterrupt):
        train_seeds("zoo:lenet", "digits", wanted, 3, jobs=1)
    found = train_seeds("zoo:lenet", "digits", replace(wanted, resume=True), 3, jobs=1)
    assert made == [3, 4, 0, 5]
    assert [one.seed for one in found] == [3, 4, 5]
