"""Only what was measured in the same way is compared: epsilons, norms, threats, attacks, images; and at which level."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.comparison_runs import document, proportion, write
from scipy.stats import binomtest

from probe.core import stats
from probe.core.blocks import Table
from probe.core.document import Report
from probe.tools.compare import compare, read_runs

OPTIONS = {"apgd-ce": {"steps": 100, "restarts": 1}, "apgd-dlr": {"steps": 100, "restarts": 1}}
N = 200
SMALLEST = np.random.default_rng(0).lognormal(np.log(0.003), 0.6, N).round(6).tolist()
"""Perturbations of one network: about 84% robust at 0.5/255 and about 33% at 1/255."""


def reported(
    epsilon: float, points: Sequence[float], smallest: Sequence[float] = SMALLEST, **more: Any
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A run that reports robust accuracy at ``epsilon``, with a curve at ``points``."""
    n = len(smallest)

    def result(name: str, at: float, path: str = "smallest_epsilon") -> dict[str, Any]:
        return proportion(name, sum(size > at for size in smallest), n, f"{path} > {at!r}")

    broken = sum(size <= epsilon for size in smallest)
    results = [
        result("robust_accuracy", epsilon),
        proportion("clean_accuracy", n, n, "prediction = label"),
        {**proportion("success_rate", broken, n), "higher_is_better": False},
        result("robust_accuracy:apgd-ce", epsilon, "attacks.apgd-ce.smallest_epsilon"),
        *(result(f"robust_accuracy@{point:.6g}", point) for point in points),
    ]
    rows = [
        {
            "image": f"{i}.png",
            "index": i,
            "label": 0,
            "prediction": 0,
            "smallest_epsilon": size,
            "attacks": {"apgd-ce": {"smallest_epsilon": size}},
        }
        for i, size in enumerate(smallest)
    ]
    config = {"epsilons": [0.0, *points], "attack options": OPTIONS, "target": None, **more.pop("config", {})}
    return document(results, config=config, **more), rows


def compared(tmp_path: Path, *runs: tuple[dict[str, Any], list[dict[str, Any]] | None]) -> Report:
    folders = [write(tmp_path / f"run{i}", made, rows) for i, (made, rows) in enumerate(runs)]
    return compare(read_runs(folders))


def told(report: Report) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in report.extra["differences"]}


def alone(report: Report) -> dict[str, str]:
    return {one["name"]: one["why"] for one in report.extra["not_compared"]}


def check(report: Report, name: str) -> Any:
    return next(one for one in report.checks if one.name == name)


def test_the_labels_and_a_networks_own_answers_are_not_one_reference(tmp_path: Path) -> None:
    (known, rows), (unknown, others) = (reported(0.003, [0.003]) for _ in range(2))
    unknown["data"] = {**unknown["data"], "labelled": False}
    report = compared(tmp_path, (known, rows), (unknown, others))
    assert "the labels in A, against the network's own answers in B" in alone(report)["success_rate"]
    assert not any("success_rate" in name for name in told(report))


HALF, ONE = 0.5 / 255, 1 / 255


def test_one_network_at_two_epsilons_has_no_difference(tmp_path: Path) -> None:
    report = compared(tmp_path, reported(HALF, (HALF, ONE)), reported(ONE, (HALF, ONE, 2 / 255)))
    found = told(report)
    assert "robust_accuracy" not in found, "it was measured at two epsilons"
    point = found[f"robust_accuracy@{HALF:.6g}"]
    assert (point["value"], point["p"], point["lost"], point["won"]) == (0, 1, 0, 0)
    assert point["setting"] == f"epsilon {HALF:.4g}, Linf"
    assert report.headline[0].startswith(f"robust accuracy at epsilon {HALF:.4g}, Linf: B")
    assert f"all {N} images have the same outcome" in report.headline[0]
    assert not any(one["p"] is not None and one["p"] < 0.05 for one in found.values())
    assert "success_rate" in alone(report)
    assert "robust_accuracy:apgd-ce" in alone(report)
    assert f"robust_accuracy at epsilon {2 / 255:.4g}" in alone(report)
    assert any(line.startswith("0 of ") for line in report.headline)


def test_runs_without_a_common_epsilon_are_listed_and_not_tested(tmp_path: Path) -> None:
    report = compared(tmp_path, reported(HALF, (HALF,)), reported(ONE, (ONE,)))
    assert [name for name in told(report) if "robust" in name] == []
    listed = alone(report)
    assert listed[f"robust_accuracy at epsilon {HALF:.4g}"] == "measured in A, not in B"
    assert listed[f"robust_accuracy at epsilon {ONE:.4g}"] == "measured in B, not in A"
    section = next(section for section in report.sections if section.id == "differences")
    tables = [block.title for block in section.blocks if isinstance(block, Table)]
    assert tables[-1] == "Not compared"
    assert any(line.startswith("Not compared: robust accuracy at epsilon") for line in report.headline)


def test_a_real_difference_at_a_common_epsilon_is_found(tmp_path: Path) -> None:
    weaker = [size / 2 for size in SMALLEST]
    report = compared(tmp_path, reported(HALF, (HALF, ONE)), reported(ONE, (HALF, ONE), weaker))
    one = told(report)[f"robust_accuracy@{HALF:.6g}"]
    lost = sum(a > HALF >= b for a, b in zip(SMALLEST, weaker, strict=True))
    assert (one["lost"], one["won"]) == (lost, 0)
    assert one["p"] == pytest.approx(binomtest(lost, lost, 0.5).pvalue)
    assert f"at epsilon {HALF:.4g}, Linf" in report.headline[0]


@pytest.mark.parametrize(
    ("config", "word"),
    [
        ({"norm": "L2"}, "norm"),
        ({"target": "least-likely"}, "target"),
        ({"attack options": {"apgd-ce": {"steps": 10, "restarts": 1}}}, "different strength"),
        ({"restarts": 5}, "restarts"),
    ],
)
def test_other_threats_and_strengths_are_not_compared(
    tmp_path: Path, config: dict[str, Any], word: str
) -> None:
    report = compared(tmp_path, reported(HALF, (HALF,)), reported(HALF, (HALF,), config=config))
    assert [name for name in told(report) if name.startswith("robust_accuracy@")] == []
    assert "robust_accuracy" not in told(report)
    assert word in alone(report)["robust_accuracy"]
    assert told(report)["clean_accuracy"]["how"] == "paired"


def test_one_attack_that_both_made_alike_is_compared(tmp_path: Path) -> None:
    fewer = {"attack options": {"apgd-ce": OPTIONS["apgd-ce"]}}
    report = compared(tmp_path, reported(HALF, (HALF,)), reported(HALF, (HALF,), config=fewer))
    assert told(report)["robust_accuracy:apgd-ce"]["how"] == "paired"
    assert "robust_accuracy" in alone(report)


def test_success_rates_over_other_images_have_no_test(tmp_path: Path) -> None:
    first, second = reported(HALF, (HALF,)), reported(HALF, (HALF,))
    second[0]["results"][2] = proportion("success_rate", 5, 150)
    one = told(compared(tmp_path, first, second))["success_rate"]
    assert (one["how"], one["p"]) == ("none", None)


def test_pictures_shown_are_no_confound(tmp_path: Path) -> None:
    shown = {"images": [1, 2], "views": ["curve"], "checks": [], "images at once": 4, "save_images": "png"}
    report = compared(tmp_path, reported(HALF, (HALF,)), reported(HALF, (HALF,), config=shown))
    options = check(report, "Same options")
    assert options.status == "pass"
    assert "images" not in options.detail.split(";")[0]
    assert "nothing that can change a compared number" in report.headline[-1]
    facts = next(section for section in report.sections if section.id == "facts").blocks[0]
    assert isinstance(facts, Table)
    assert {row[-1] for row in facts.rows} == {"no"}


def test_options_that_can_matter_are_named(tmp_path: Path) -> None:
    report = compared(
        tmp_path, reported(HALF, (HALF,)), reported(HALF, (HALF,), config={"bf16": True, "images": [3]})
    )
    options = check(report, "Same options")
    assert options.status == "warn"
    assert options.detail.startswith("bf16 differ")


def test_channels_of_a_layer_matter_to_its_numbers_only(tmp_path: Path) -> None:
    correlation = {**proportion("correlation:conv1:filter norm:change", 1, 4), "ci": None, "unit": ""}
    for name, status in (("conv1", "warn"), ("conv2", "pass")):
        runs = [
            (document([correlation], "dossier", config={"measured channels": {name: [channel]}}), None)
            for channel in (0, 1)
        ]
        assert check(compared(tmp_path / name, *runs), "Same options").status == status


def test_intervals_are_at_the_level_of_all_tests(tmp_path: Path) -> None:
    weaker = [size / 2 for size in SMALLEST]
    report = compared(tmp_path, reported(HALF, (HALF, ONE)), reported(HALF, (HALF, ONE), weaker))
    found = told(report)
    tests = sum(one["p"] is not None for one in found.values())
    assert tests == 4
    level = 1 - 0.05 / tests
    assert report.extra["joint_level"] == pytest.approx(level)
    one = found["robust_accuracy"]
    both = sum(size > HALF for size in weaker)
    assert one["ci_joint"] == pytest.approx(
        stats.newcombe_paired(both, one["lost"], 0, N - both - one["lost"], level)
    )
    assert one["ci_joint"][0] < one["ci"][0] < one["ci"][1] < one["ci_joint"][1]
    assert "98.75% interval" in report.headline[0]
    table = next(section for section in report.sections if section.id == "differences").blocks[0]
    assert isinstance(table, Table)
    assert "98.75% interval" in [column.name for column in table.columns]


def test_a_tie_is_told(tmp_path: Path) -> None:
    swapped = [*SMALLEST]
    low, high = int(np.argmin(SMALLEST)), int(np.argmax(SMALLEST))
    swapped[low], swapped[high] = swapped[high], swapped[low]
    report = compared(tmp_path, reported(HALF, (HALF,)), reported(HALF, (HALF,), swapped))
    assert "a tie, 1 images lost and 1 won" in report.headline[0]


def test_intervals_at_a_level_are_those_of_wilson_at_that_level() -> None:
    """Newcombe's interval for a proportion against none is made of two Wilson intervals."""
    low, high = stats.newcombe(0, 10, 4, 10, confidence=0.99)
    (_, zero), (below, above) = stats.wilson(0, 10, 0.99), stats.wilson(4, 10, 0.99)
    assert low == pytest.approx(0.4 - np.hypot(zero, 0.4 - below))
    assert high == pytest.approx(0.4 + (above - 0.4))


def test_p_values_are_not_subtracted(tmp_path: Path) -> None:
    p = {**proportion("lesion_p:shortcut:all", 1, 10), "ci": None, "unit": ""}
    report = compared(tmp_path, (document([p], "ablation"), None), (document([p], "ablation"), None))
    assert told(report) == {}
    assert "no meaning" in alone(report)["lesion_p:shortcut:all"]


def test_means_over_seeds_on_other_images_have_no_test(tmp_path: Path) -> None:
    made = {
        **proportion("retrain_accuracy:intact", 9, 10),
        "n": 3,
        "ci": list(stats.t_interval([0.8, 0.9, 1.0])),
    }
    runs = [
        (document([made], "ablation"), None),
        (document([made], "ablation", data={"name": "another"}), None),
    ]
    one = told(compared(tmp_path, *runs))["retrain_accuracy:intact"]
    assert one["how"] == "none"
    assert "different held-out images" in one["not_tested_because"]
