"""The table of minimum-norm attacks: local optimality, the median's interval, the command and its errors."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from probe.cli import main as cli
from probe.core.stats import median_interval
from probe.tools.attack_bench import local_optimality

INF = np.inf


def test_local_optimality_is_the_ratio_of_areas() -> None:
    sizes = np.array([[1.0, 2.0, 4.0], [1.0, 3.0, INF], [2.0, 2.0, 3.0]])
    found = local_optimality(sizes)
    # The envelope is 1, 2, 3: the curves are integrated up to 3 on a fine grid.
    grid = (np.arange(300_000) + 0.5) / 100_000
    below = [(row[:, None] <= grid).mean(0).sum() for row in (*sizes, sizes.min(0))]
    assert found == pytest.approx(np.array(below[:3]) / below[3], abs=1e-4)


def test_local_optimality_without_any_area() -> None:
    assert local_optimality(np.full((2, 3), INF)).tolist() == [0, 0]
    assert local_optimality(np.array([[2.0, 2.0], [2.0, INF]])).tolist() == [1, 0.5]


def test_interval_of_the_median_has_the_ranks_of_the_sign_test_and_bears_infinity() -> None:
    # Of 20 values, at most 5 lie below the median with probability 0.021, and at most 6 with 0.058.
    tails = [sum(math.comb(20, k) for k in range(most + 1)) / 2**20 for most in (5, 6)]
    assert tails[0] <= 0.025 < tails[1]
    assert median_interval(range(1, 21)) == (10.0, (6.0, 15.0))
    assert median_interval([1.0, 2.0, INF]) == (2.0, (1.0, INF))
    with pytest.raises(ValueError, match="median"):
        median_interval([])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["L2", "--bench", "--attack", "pgd"], "pgd looks within an epsilon"),
        (["L7", "--bench"], "no norm 'L7'"),
        (["L0", "--bench", "--attack", "ddn"], "ddn supports L2, not L0"),
        (["L2", "--attack", "ddn"], "--attack is for comparing"),
        (["L2", "--bench", "--attack", "nothing"], "nothing"),
    ],
)
def test_bad_words_are_refused_in_one_line(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["attacks", *words]) == 2
    message = capsys.readouterr().err
    assert said in message
    assert message.count("\n") == 1


def test_bench_prints_a_row_for_each_attack(capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "attacks",
        "Linf",
        "--bench",
        "-m",
        "zoo:lenet",
        "--weights",
        "none",
        "-d",
        "digits",
        "-n",
        "40",
    ]
    quick = ["--attack", "fmn,deepfool", "--steps", "8", "-q", "--offline", "--device", "cpu"]
    assert cli.run([*words, *quick, "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)["attacks"]
    assert {row["attack"] for row in rows} == {"fmn", "deepfool"}
    for row in rows:
        known = [size for size in row["sizes"] if size is not None]
        assert row["success"] == len(known)
        assert len(row["sizes"]) == row["n"]
        assert row["gradients_per_image"] > 0
    best = max(row["local_optimality"] for row in rows)
    assert 0 < best <= 1
