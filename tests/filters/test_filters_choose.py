"""What is chosen when the user leaves it open, and how a wrong choice is refused."""

from __future__ import annotations

import pytest
import torch
from helpers.filters_models import loaded, pictures
from torch import nn

from probe.core.errors import NotApplicableError, UsageError
from probe.core.progress import SILENT
from probe.graph.trace.layers import LayerInfo, feature_layers
from studies.filters.choose import answering_layer, choose_channels, choose_images, choose_layers
from studies.filters.observe import LayerObservation, Observations, observe

MAPS = tuple(LayerInfo(name, (4, 8, 8), "Conv2d", 1) for name in ("stem", "body", "head"))


def test_wanted_layers_come_in_execution_order() -> None:
    assert choose_layers(MAPS, ["head", "stem"]) == ("stem", "head")


def test_an_unknown_layer_names_those_near_it() -> None:
    with pytest.raises(UsageError, match=r"'sten'.*'stem'"):
        choose_layers(MAPS, ["sten"])


def test_a_network_without_maps_is_refused() -> None:
    with pytest.raises(NotApplicableError, match="no layer whose output is a map"):
        choose_layers((), None)


def observation(peaks: list[float], mean: list[float], deviation: list[float]) -> LayerObservation:
    values = torch.tensor([peaks])
    empty = torch.zeros_like(values, dtype=torch.int64)
    return LayerObservation(
        values, empty, empty, empty, torch.tensor(mean), torch.tensor(deviation), empty[0]
    )


def test_auto_channels_are_those_that_stand_out() -> None:
    seen = observation([1, 9, 5, 5, 5, 5, 5, 7], [0] * 8, [1, 1, 0, 1, 1, 5, 1, 1])
    # scores: 1, 9, 0 (constant), 5, 5, 1, 5, 7; five best, the lower number first among equals
    assert choose_channels(seen, None, "x") == (1, 3, 4, 6, 7)


def test_channels_outside_the_layer_are_refused() -> None:
    seen = observation([1, 2], [0, 0], [1, 1])
    assert choose_channels(seen, (1, 0, 1), "x") == (1, 0)
    with pytest.raises(UsageError, match="'x' has channels 0 to 1; there is no channel 2"):
        choose_channels(seen, (2,), "x")


def seen_images(labels: list[int], predictions: list[int]) -> Observations:
    n = len(labels)
    return Observations(
        torch.arange(n) * 2, torch.tensor(labels), torch.tensor(predictions), torch.ones(n), {}
    )


def test_a_mistake_has_a_place_among_the_shown_images() -> None:
    labels = [0] * 40
    seen = seen_images(labels, [0] * 25 + [1] + [0] * 14)
    for seed in range(20):
        shown = choose_images(seen, 3, seed)
        assert 50 in shown
        assert len(set(shown)) == 3
        assert list(shown) == sorted(shown)
        assert shown == choose_images(seen, 3, seed)
    assert len({choose_images(seen, 3, seed) for seed in range(20)}) > 5


def test_more_images_than_there_are_is_all_of_them() -> None:
    assert choose_images(seen_images([0, 1], [0, 1]), 10, 0) == (0, 2)


def test_images_by_number_must_be_readable() -> None:
    seen = seen_images([0, 1, 2], [0, 1, 2])
    assert choose_images(seen, (4, 0), 0) == (4, 0)
    with pytest.raises(UsageError, match="no readable image 3"):
        choose_images(seen, (3, 0), 0)
    with pytest.raises(UsageError, match="at least 1"):
        choose_images(seen, 0, 0)


def test_a_filter_answers_at_its_own_norm_only() -> None:
    model = loaded()
    maps = feature_layers(model.network, torch.zeros(1, 3, 16, 16))
    assert answering_layer(model.network, maps, "conv1") == "norm1"
    assert answering_layer(model.network, maps, "conv2") == "conv2"  # a ReLU follows, no norm


def test_a_filter_that_never_fires_is_counted() -> None:
    model = loaded()
    conv = model.network.get_submodule("conv1")
    norm = model.network.get_submodule("norm1")
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    norm.bias.data[2] = -1e3
    seen = observe(model, pictures(5), ["norm1"], 2, SILENT)
    assert int(seen.layers["norm1"].fired[2]) == 0
    assert int((seen.layers["norm1"].fired == 0).sum()) == 1
