"""What every view of the filters study keeps to, whatever the network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.filters_models import SmallNet, loaded, pictures
from torch import Tensor, nn

from probe.core.blocks import Figure, Gallery, Table
from probe.core.document import Section
from probe.core.errors import NotApplicableError
from probe.core.progress import SILENT
from probe.core.state import fingerprint
from studies.filters.config import FiltersConfig
from studies.filters.registries import VIEWS
from studies.filters.study import prepare
from studies.filters.workspace import FiltersWorkspace

CONFIG = FiltersConfig(images=2, steps=3, channels=(0, 1), batch_size=4)


class Untraceable(SmallNet):
    """Looks at its input's values, which a graph cannot."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x * 2 if float(x.detach().mean()) > 1e6 else x)


class Smooth(nn.Module):
    """No ReLU anywhere, and one channel in."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.GELU(), nn.Conv2d(4, 4, 3, stride=2), nn.SiLU())
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).mean((2, 3)))


def space_for(kind: str) -> FiltersWorkspace:
    sizes = {"small": (3, 16, 16), "untraceable": (3, 16, 16), "smooth": (1, 14, 18)}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        networks: dict[str, nn.Module] = {
            "small": SmallNet(),
            "untraceable": Untraceable(),
            "smooth": Smooth(),
        }
    model = loaded(networks[kind], sizes[kind])
    if kind == "smooth":
        from dataclasses import replace

        model = replace(model, factory=Smooth)
    labels = [0, 1, 2] * 4 if kind == "small" else None
    return prepare(model, pictures(12, 20, labels), CONFIG, SILENT)


@pytest.fixture(scope="module", params=["small", "untraceable", "smooth"])
def space(request: pytest.FixtureRequest) -> FiltersWorkspace:
    return space_for(request.param)


@pytest.mark.parametrize("name", VIEWS.names())
def test_a_view_gives_a_section_or_a_reason_and_leaves_the_network_alone(
    name: str, space: FiltersWorkspace
) -> None:
    before = fingerprint(space.model.module)
    random = torch.get_rng_state()
    try:
        section = VIEWS.get(name)(space)
    except NotApplicableError as error:
        section = Section(name, name, reason=str(error))
    assert fingerprint(space.model.module) == before
    assert torch.equal(torch.get_rng_state(), random)
    assert section.id == name
    assert section.reason or section.blocks
    for block in section.blocks:
        if isinstance(block, Gallery | Figure):
            assert block.title
            assert block.reading, f"{block.title} has no sentence on how to read it"
        if isinstance(block, Gallery):
            for strip in block.strips:
                for picture in strip.pictures:
                    assert picture.alt
                    assert picture.pixels.dtype == np.uint8
                    assert min(picture.pixels.shape) > 0
        if isinstance(block, Table):
            assert block.rows
    for result in section.results:
        assert result.name.startswith(name)


@pytest.mark.parametrize("name", VIEWS.names())
def test_a_view_says_the_same_twice(name: str) -> None:
    first, second = (VIEWS.get(name)(space_for("small")) for _ in range(2))
    assert first.findings == second.findings
    for one, other in zip(first.blocks, second.blocks, strict=True):
        if isinstance(one, Gallery):
            assert isinstance(other, Gallery)
            pairs = zip(one.strips, other.strips, strict=True)
            for a, b in ((a, b) for s, t in pairs for a, b in zip(s.pictures, t.pictures, strict=True)):
                assert np.array_equal(a.pixels, b.pixels)
                assert a.caption == b.caption


class Failing(nn.Module):
    """Fails from its n-th forward on."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.failing = False

    def forward(self, x: Tensor) -> Tensor:
        if self.failing:
            raise RuntimeError("out of memory, say")
        return self.inner(x)


@pytest.mark.parametrize("name", [name for name in VIEWS.names() if name != "weights"])
def test_a_failing_network_is_left_as_it_was(name: str) -> None:
    network = Failing(SmallNet())
    space = prepare(loaded(network), pictures(6, 16), CONFIG, SILENT)
    network.failing = True
    before = fingerprint(space.model.module)
    with pytest.raises((RuntimeError, NotApplicableError)):
        VIEWS.get(name)(space)
    assert fingerprint(space.model.module) == before
