"""What the anatomy says, and that its report is a valid one."""

from __future__ import annotations

import dataclasses
from math import comb
from pathlib import Path

import jsonschema
import pytest
import torch
from torch import Tensor, nn

from probe.core.blocks import Table
from probe.core.document import Report
from probe.core.state import fingerprint
from probe.graph.cost.paths import Paths
from probe.models.load import load_model
from probe.models.loaded import LoadedModel
from probe.report.render import write_report
from probe.report.results import schema, to_json
from probe.tools import anatomy
from probe.tools.anatomy.cost_report import by_resolution, stages
from probe.tools.anatomy.examine import Examined, examine
from probe.tools.anatomy.paths_report import base_of, binomial
from probe.tools.anatomy.rows import (
    Total,
    amount,
    bar,
    console_rows,
    console_totals,
    memory,
    plain,
    power,
    totals,
    unlisted,
)


def loaded(name: str, size: int = 32) -> LoadedModel:
    return load_model(name, weights="none", img_size=size, device="cpu", offline=True)


@pytest.fixture(scope="module")
def resnet() -> LoadedModel:
    return loaded("torchvision:resnet18", 64)


@pytest.fixture(scope="module")
def examined(resnet: LoadedModel) -> Examined:
    return examine(resnet, anatomy.AnatomyConfig())


@pytest.fixture(scope="module")
def report(resnet: LoadedModel) -> Report:
    return anatomy.run(resnet, command="probe anatomy")


def test_the_report_answers_first_and_is_valid(report: Report, tmp_path: Path) -> None:
    document = to_json(report)
    jsonschema.validate(document, schema())
    assert document["data"]["n"] == 0
    assert all(text in report.headline[0] for text in ("11,689,512 parameters", "149 M MACs", "297 M FLOPs"))
    assert any("2^8 = 256 paths" in line and "18 layers" in line for line in report.headline)
    assert any("435×435 pixels" in line for line in report.headline)
    assert {check.status for check in report.checks} == {"pass"}
    assert not report.model.notes
    page = write_report(report, tmp_path / "report").read_text(encoding="utf-8")
    assert "<dt>Data</dt>" not in page
    assert "Binomial(8, ½)" in page


def test_the_model_is_not_changed_and_the_weights_do_not_matter(resnet: LoadedModel, report: Report) -> None:
    before = fingerprint(resnet.module)
    other = anatomy.run(resnet.fresh(5))
    assert fingerprint(resnet.module) == before
    assert other.results == report.results
    assert other.extra["layers"] == report.extra["layers"]


def test_shares_of_stages_and_kinds_are_of_the_whole(examined: Examined) -> None:
    census = examined.operations
    for group in (stages(census.rows), by_resolution(census.rows)):
        assert sum(stage.macs for stage in group) == census.macs
        assert sum(stage.parameters for stage in group) == census.parameters
        assert sum(stage.activations for stage in group) == census.activations
        assert [row for stage in group for row in stage.rows if row.is_layer] == list(census.layers)
    assert [stage.name for stage in stages(census.rows)] == [
        *("conv1", "maxpool", "layer1", "layer2", "layer3", "layer4", "avgpool", "fc"),
    ]  # fmt: skip
    names = [stage.name for stage in by_resolution(census.rows)]
    assert names == ["32×32", "16×16", "8×8", "4×4", "2×2", "head"]


def test_a_network_of_one_sequence_has_stages_too() -> None:
    found = examine(loaded("torchvision:vgg11", 64), anatomy.AnatomyConfig())
    names = [stage.name for stage in stages(found.operations.rows)]
    assert 3 <= len(names) <= 16
    assert sum(stage.macs for stage in stages(found.operations.rows)) == found.operations.macs


def test_console_rows_leave_out_what_never_happens(examined: Examined) -> None:
    heads, rows = console_rows(examined)
    assert "groups" not in heads
    assert len(rows) == 23
    assert all(len(row) == len(heads) for row in rows)
    conv1 = dict(zip(heads, rows[0], strict=True))
    assert conv1["kernel"], conv1["stride"] == ("7×7", "2")
    assert conv1["output"] == "64×32×32"
    assert conv1["parameters"].strip() == "9,408"
    assert len(console_rows(examined, everything=True)[1]) == len(examined.operations.rows) > 23
    assert "20 norms, with 9,600 parameters" in unlisted(examined)


def test_plain_values_keep_large_counts_exact(examined: Examined) -> None:
    values = plain(examined)
    assert values["totals"]["macs"] == examined.operations.macs
    assert values["totals"]["flops"] == 2 * examined.operations.macs
    assert values["paths"]["by_blocks"] == {str(k): comb(8, k) for k in range(9)}
    assert values["layers"][0]["window"]["kernel"] == [7, 7]


def test_two_convolutions_of_three_see_as_much_as_one_of_five(tmp_path: Path) -> None:
    source = tmp_path / "twins.py"
    source.write_text(
        "from torch import nn\n"
        "def five():\n"
        "    return net([nn.Conv2d(16, 16, 5, padding=2, bias=False)])\n"
        "def threes():\n"
        "    return net([nn.Conv2d(16, 16, 3, padding=1, bias=False) for _ in range(2)])\n"
        "def net(body):\n"
        "    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 2)]\n"
        "    return nn.Sequential(nn.Conv2d(3, 16, 1), *body, *head)\n"
    )
    one, two = (loaded(f"{source}:{name}", 16) for name in ("five", "threes"))
    report = anatomy.compare(one, two)
    jsonschema.validate(to_json(report), schema())
    a, b = (examine(network, anatomy.AnatomyConfig()) for network in (one, two))
    assert a.operations.parameters - b.operations.parameters == (25 - 18) * 16 * 16
    assert a.operations.macs - b.operations.macs == (25 - 18) * 16 * 16 * 16 * 16
    assert a.operations.reach is not None
    assert b.operations.reach is not None
    assert a.operations.reach.size == b.operations.reach.size == (5, 5)
    table = next(block for block in report.sections[0].blocks if isinstance(block, Table))
    rows = {row[0]: row[3:] for row in table.rows}
    assert rows["parameters"] == (-1792, b.operations.parameters / a.operations.parameters)
    assert rows["receptive field of the last map, height"] == (0, 1.0)
    assert [total.name for total in totals(a)] == list(rows)
    heads, lines = console_totals(a, b)
    assert heads[1:3] == (a.name, b.name)
    assert "-1,792" in lines[0][3]


class Deciding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if x.mean() > 0:
            x = x + 1
        return self.head(x.mean((2, 3)))


def test_what_cannot_be_traced_still_has_its_layers(resnet: LoadedModel) -> None:
    from probe.models.loaded import PixelModel

    module = PixelModel(Deciding(), (0.0,) * 3, (1.0,) * 3).eval().requires_grad_(False)
    model = dataclasses.replace(resnet, module=module, name="deciding")
    report = anatomy.run(model)
    jsonschema.validate(to_json(report), schema())
    paths = next(section for section in report.sections if section.id == "paths")
    assert "cannot be traced" in paths.reason
    assert any("Paths and depth are not known" in line for line in report.headline)
    side = resnet.input.size[1] - 2
    assert report.extra["totals"]["macs"] == 9 * 3 * 4 * side * side + 4 * 2


@pytest.mark.parametrize(
    ("count", "blocks", "shown"),
    [
        (1, 0, "1"),
        (256, 8, "2^8 = 256"),
        (3, 1, "3"),
        (1000, 0, "1,000"),
        (2**58, 0, "2^58"),
        (2**58, 58, "2^58"),
        (33**16, 16, "33^16 ≈ 2^80.7"),
        (3 * 2**60, 10, "≈ 2^61.6"),
        (257**500, 500, "257^500 ≈ 2^4002.8"),
    ],
)
def test_numbers_of_paths_are_written_as_powers(count: int, blocks: int, shown: str) -> None:
    assert power(count, blocks) == shown


def test_the_base_is_found_only_where_it_is_exact() -> None:
    def of(blocks: int, with_groups: int) -> Paths:
        return Paths({1: 1}, {k: comb(blocks, k) for k in range(blocks + 1)}, blocks, with_groups)

    assert base_of(of(16, 33**16)) == 33
    assert base_of(of(16, 33**16 + 1)) is None
    assert base_of(of(300, 1025**300)) == 1025
    assert binomial(of(16, 1))
    assert not binomial(Paths({1: 1}, {0: 2, 1: 4, 2: 2}, 2, 1))


def test_sizes_and_bars() -> None:
    assert [amount(n) for n in (0, 9_999, 12_300, 1_814_073_344)] == ["0", "9,999", "12.3 k", "1.81 G"]
    assert [memory(n) for n in (0, 512, 3 * 2**20)] == ["0", "0.5 KiB", "3 MiB"]
    assert [bar(share, 4) for share in (0, 1e-9, 0.5, 0.53, 1)] == ["    ", "▏   ", "██  ", "██▏ ", "████"]
    assert torch.tensor([len(bar(i / 97)) == 10 for i in range(98)]).all()


@pytest.mark.parametrize(
    ("counts", "difference", "ratio"),
    [
        ((6, 9), 3, 1.5),
        ((2**27, 1), None, "2^−27.0"),
        ((1, 2**27), None, "2^27.0"),
        ((2**27, 2**28), None, 2.0),
        ((2**2000, 2**2000), None, 1.0),
        ((2**2000, 3 * 2**2000), None, 3.0),
        ((2**27, 0), None, 0.0),
    ],
)
def test_numbers_of_paths_that_are_powers_have_a_ratio_and_no_difference(
    counts: tuple[int, int], difference: int | None, ratio: float | str
) -> None:
    first, second = (Total("paths", count, power(count), paths=True) for count in counts)
    assert first.to(second) == (difference, ratio)
    # Any other number has both, however large.
    macs = [dataclasses.replace(total, paths=False).to(total) for total in (first, second)]
    assert macs == [(0, 1.0), (0, 1.0 if counts[1] else None)]
    assert Total("MACs", 2**60, "").to(Total("MACs", 2**60 + 1, ""))[0] == 1


def test_networks_of_one_name_are_a_and_b_in_headings_once(resnet: LoadedModel) -> None:
    report = anatomy.compare(resnet, resnet)
    tables = [block for section in report.sections for block in section.blocks if isinstance(block, Table)]
    assert [column.name for column in tables[0].columns] == ["Quantity", "A", "B", "B − A", "B / A"]
    assert [section.title for section in report.sections][-2:] == ["Layers of A", "Layers of B"]
    helps = {column.name: column.help for column in tables[1].columns}
    assert len(set(helps.values())) == 4  # the two networks' columns share one
    assert helps["MACs of A"] == helps["MACs of B"]


def test_a_network_without_a_map_leaves_no_sentence_on_receptive_fields(
    resnet: LoadedModel, examined: Examined
) -> None:
    flat = dataclasses.replace(examined, operations=dataclasses.replace(examined.operations, rows=()))
    for pair in ((flat, examined), (examined, flat)):
        lines = anatomy.compare(resnet, resnet, both=pair).headline
        assert not any("receptive field" in line for line in lines)
