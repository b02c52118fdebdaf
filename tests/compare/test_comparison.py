"""Comparisons of runs made by hand: which test is made, with which numbers, and what is said about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
from helpers.comparison_runs import EPSILONS, adversarial, document, proportion, write
from scipy.stats import binomtest, fisher_exact, ttest_ind

from probe.core import stats
from probe.core.blocks import Table
from probe.core.document import Report
from probe.report.render import write_report
from probe.report.results import schema, to_json
from probe.tools.compare import compare, read_runs

FIRST = [0.0, 0.01, 0.01, 0.01, 0.03, 0.03, None, None, 0.015, 0.015]
SECOND = [0.0, 0.03, 0.03, 0.03, 0.03, 0.03, None, None, 0.03, 0.01]


def compared(tmp_path: Path, *runs: tuple[dict[str, Any], list[dict[str, Any]] | None]) -> Report:
    folders = [write(tmp_path / f"run{i}", made, rows) for i, (made, rows) in enumerate(runs)]
    return compare(read_runs(folders))


def told(report: Report) -> dict[str, dict[str, Any]]:
    return {f"{one['run']}:{one['name']}": one for one in report.extra["differences"]}


def check(report: Report, name: str) -> str:
    return next(one.status for one in report.checks if one.name == name)


def test_the_same_images_are_paired(tmp_path: Path) -> None:
    report = compared(tmp_path, adversarial(FIRST), adversarial(SECOND))
    one = told(report)["B:robust_accuracy"]
    assert (one["how"], one["lost"], one["won"]) == ("paired", 0, 4)
    assert one["p"] == pytest.approx(binomtest(0, 4, 0.5).pvalue)
    assert one["value"] == pytest.approx(0.4)
    assert one["ci"][0] < 0.4 < one["ci"][1]
    assert told(report)["B:clean_accuracy"]["how"] == "paired"
    assert "B:robust_accuracy@0.02" not in told(report), (
        "the headline is on the curve and was compared already"
    )
    assert check(report, "Same images") == "pass"


def test_the_order_of_the_images_does_not_matter(tmp_path: Path) -> None:
    made, rows = adversarial(SECOND)
    report = compared(tmp_path, adversarial(FIRST), (made, rows[::-1]))
    assert told(report)["B:robust_accuracy"]["won"] == 4


def other_label(rows: list[dict[str, Any]]) -> None:
    rows[0]["label"] = 2


def other_image(rows: list[dict[str, Any]]) -> None:
    rows[0]["image"] = "else.png"


def other_outcome(rows: list[dict[str, Any]]) -> None:
    rows[1]["smallest_epsilon"] = 0.001


@pytest.mark.parametrize("change", [other_label, other_image, other_outcome, None])
def test_what_is_neither_paired_nor_independent_has_no_test(tmp_path: Path, change: Any) -> None:
    made, rows = adversarial(SECOND)
    if change is not None:
        change(rows)
    report = compared(tmp_path, adversarial(FIRST), (made, None if change is None else rows))
    one = told(report)["B:robust_accuracy"]
    assert (one["how"], one["p"], one["won"]) == ("none", None, None)
    assert one["value"] == pytest.approx(0.4)
    assert "neither paired nor independent" in one["not_tested_because"]
    assert any("not tested" in line for line in report.headline)


@pytest.mark.parametrize("with_samples", [True, False])
def test_different_images_are_independent(tmp_path: Path, with_samples: bool) -> None:
    made, rows = adversarial(SECOND, data={"name": "another"})
    for row in rows:
        row["image"] = f"other-{row['image']}"
    first, firsts = adversarial(FIRST)
    runs = ((first, firsts), (made, rows)) if with_samples else ((first, None), (made, None))
    report = compared(tmp_path, *runs)
    one = told(report)["B:robust_accuracy"]
    assert one["how"] == "unpaired"
    assert one["p"] == pytest.approx(fisher_exact([[4, 6], [8, 2]]).pvalue)
    assert check(report, "Same images") == "warn"


def test_images_of_other_data_with_the_same_names_may_be_the_same(tmp_path: Path) -> None:
    made, rows = adversarial(SECOND, data={"name": "another"})
    assert told(compared(tmp_path, adversarial(FIRST), (made, rows)))["B:robust_accuracy"]["how"] == "none"


def test_other_images_without_labels_are_not_paired(tmp_path: Path) -> None:
    runs = [adversarial(FIRST), adversarial(SECOND)]
    for _, rows in runs:
        for row in rows:
            row["label"] = None
    runs[1][1][3]["image"] = "else.png"
    assert told(compared(tmp_path, *runs))["B:robust_accuracy"]["how"] == "none"


def test_images_that_share_a_name_are_paired_by_their_place_in_one_draw_only(tmp_path: Path) -> None:
    runs = [adversarial(FIRST), adversarial(SECOND)]
    for _, rows in runs:
        for row in rows:
            row["image"] = f"digit {row['label']}"
    assert told(compared(tmp_path / "same", *runs))["B:robust_accuracy"]["how"] == "paired"
    runs[1][0]["seed"] = 1
    assert told(compared(tmp_path / "other", *runs))["B:robust_accuracy"]["how"] == "none"


def test_p_values_are_corrected_over_all_runs(tmp_path: Path) -> None:
    report = compared(tmp_path, adversarial(FIRST), adversarial(SECOND), adversarial([None] * 10))
    ps = [(one["p"], one["p_holm"]) for one in report.extra["differences"]]
    tests = len(ps)
    least = min(ps)
    assert least[1] == pytest.approx(min(1.0, least[0] * tests))
    assert all(corrected >= p for p, corrected in ps)
    assert {one["run"] for one in report.extra["differences"]} == {"B", "C"}


def over_seeds(values: list[float], interval: tuple[float, float]) -> dict[str, Any]:
    mean = sum(values) / len(values)
    return {
        **proportion("retrain_accuracy:intact", 0, 1),
        "value": mean,
        "n": len(values),
        "ci": list(interval),
    }


@pytest.mark.parametrize("proportions", [False, True], ids=["Student", "proportions"])
def test_means_over_seeds_are_compared_by_welch(tmp_path: Path, proportions: bool) -> None:
    a, b = [0.9, 0.92, 0.95], [0.97, 0.99, 0.98]
    # Of so many images that the seeds differ by more than they do by chance.
    intervals = [
        stats.mean_proportion(values, 5000) if proportions else stats.t_interval(values) for values in (a, b)
    ]
    runs = [
        (document([over_seeds(values, interval)], "ablation"), None)
        for values, interval in zip((a, b), intervals, strict=True)
    ]
    one = told(compared(tmp_path, *runs))["B:retrain_accuracy:intact"]
    expected = ttest_ind(b, a, equal_var=False)
    assert one["how"] == "seeds"
    assert one["p"] == pytest.approx(expected.pvalue)
    assert one["ci"] == pytest.approx(tuple(expected.confidence_interval()))


def test_other_numbers_have_a_difference_and_no_test(tmp_path: Path) -> None:
    items = [
        {**proportion("median_smallest_epsilon", 1, 2), "unit": "Linf", "ci": None, "value": v}
        for v in (0.5, 0.75)
    ]
    one = told(compared(tmp_path, *[(document([item]), None) for item in items]))["B:median_smallest_epsilon"]
    assert (one["value"], one["p"], one["how"]) == (0.25, None, "none")


def test_lesions_are_paired_by_what_each_image_became(tmp_path: Path) -> None:
    def run(right: list[bool]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        rows = [
            {
                "part": "lesions",
                "image": f"{i}.png",
                "label": 0,
                "right": True,
                "lesions": {"shortcut": {"prediction": 0 if r else 1, "right": r}},
            }
            for i, r in enumerate(right)
        ]
        # Held-out images of the same names must not be mixed up with these.
        rows += [{"part": "held-out", "image": f"{i}.png", "label": 1, "right": {}} for i in range(3)]
        results = [
            proportion("intact_accuracy", len(right), len(right), "right"),
            proportion("lesion_accuracy:shortcut:all", sum(right), len(right), "lesions.shortcut.right"),
        ]
        return document(results, "ablation"), rows

    report = compared(tmp_path, run([True, True, False, False, True]), run([True, False, True, True, True]))
    one = told(report)["B:lesion_accuracy:shortcut:all"]
    assert (one["how"], one["lost"], one["won"]) == ("paired", 1, 2)
    assert told(report)["B:intact_accuracy"]["how"] == "paired"


def test_what_differs_is_listed_and_an_interrupted_run_named(tmp_path: Path) -> None:
    first, _ = adversarial(FIRST)
    second, _ = adversarial(
        SECOND,
        model={"name": "other"},
        config={"epsilons": [0.0], "recipe": {"lr": 0.1}},
        environment={"torch": "3"},
        status="interrupted",
        seed=3,
        checks=[{"name": "Zero gradients", "status": "fail", "value": 1, "detail": "no"}],
    )
    report = compared(tmp_path, (first, None), (second, None))
    facts = {(fact["part"], fact["name"]): fact["values"] for fact in report.extra["differing"]}
    assert facts["model", "name"] == ("net", "other")
    assert facts["environment", "torch"] == ("2", "3")
    assert facts["config", "recipe.lr"] == ("–", "0.1")
    assert facts["run", "seed"] == ("0", "3")
    assert facts["run", "status"] == ("done", "interrupted")
    assert ("data", "name") not in facts
    assert any("B: other was interrupted" in sentence for sentence in report.warnings)
    statuses = [
        check(report, name)
        for name in ("Finished runs", "Same options", "Same versions", "The runs' own checks")
    ]
    assert statuses == ["warn", "warn", "warn", "fail"]


def test_curves_lie_in_one_figure_and_the_page_can_be_written(tmp_path: Path) -> None:
    curve = {"label": "intact", "x": [1, 2], "y": [0.5, 0.9], "low": [0.4, 0.8], "high": [0.6, 1.0]}
    runs = [adversarial(FIRST, extra={"learning_curves": [curve, "broken"]}), adversarial(SECOND)]
    report = compared(tmp_path, *runs)
    figures = {
        block.title: block
        for section in report.sections
        for block in section.blocks
        if hasattr(block, "series")
    }
    robust = figures["Robust accuracy against epsilon, Linf"]
    assert [series.label for series in robust.series] == ["A: run0", "B: run1"]
    assert robust.series[1].x == EPSILONS
    assert robust.series[1].y == (0.9, 0.8, 0.8, 0.2)
    assert figures["Held-out accuracy during training"].series[0].y == (0.5, 0.9)
    jsonschema.validate(to_json(report), schema())
    page = write_report(report, tmp_path / "out").read_text(encoding="utf-8")
    assert "Differences from A: run0" in page
    numbers = next(
        block
        for section in report.sections
        for block in section.blocks
        if isinstance(block, Table) and block.title == "Results"
    )
    assert numbers.rows[0][:4] == ("robust_accuracy", "40%", "16.8 to 68.7%", 10)


def test_results_of_one_run_alone_are_shown_and_not_compared(tmp_path: Path) -> None:
    report = compared(
        tmp_path,
        (document([proportion("only_here", 1, 2)]), None),
        (document([proportion("only_there", 1, 2)]), None),
    )
    assert report.extra["differences"] == []
    assert "no number in common" in report.headline[0]
    section = next(section for section in report.sections if section.id == "numbers")
    table = section.blocks[0]
    assert isinstance(table, Table)
    assert table.rows[0][4:] == (None, None, None)


def test_a_retrained_arms_curve_is_kept_for_comparisons() -> None:
    from types import SimpleNamespace
    from typing import cast

    from studies.ablation.retrain import RetrainResult
    from studies.ablation.retrain_report import learning_curves

    curves = {(): [[0.5, 0.9], [0.7, 0.9]], ("shortcut",): [[0.25, 0.5]]}
    made = SimpleNamespace(
        depths=(None,),
        variants=tuple(curves),
        of=lambda variant, depth: [SimpleNamespace(curve=curve) for curve in curves[variant]],
    )
    found = learning_curves(cast(RetrainResult, made))
    assert [one["x"] for one in found] == [(1.0, 2.0), (1.0, 2.0)]
    assert found[0]["y"] == pytest.approx((0.6, 0.9))
    assert found[0]["low"] == (0.5, 0.9)
    assert found[0]["label"] != found[1]["label"]
