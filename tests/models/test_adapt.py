"""Users' networks as they are: wrapped, lazy, in other precisions, with several outputs or one; and what goes wrong."""

from __future__ import annotations

import copy
import pickle
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

import probe
from probe.core.errors import CannotRunError, UsageError
from probe.core.outputs import OutputPick, with_output
from probe.models.adapt import adapt, notes_on
from probe.models.first_pass import ShapeError
from probe.models.measure import measure
from probe.models.wrap import wrap

PIXELS = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))


@dataclass
class Both:
    features: Tensor
    logits: Tensor


class Pair(NamedTuple):
    logits: Tensor
    aux_logits: Tensor


class Net(nn.Module):
    """Three classes on 8×8 grey; ``form`` makes what is returned from logits and features."""

    def __init__(self, form: Callable[[Tensor, Tensor], Any] | None = None) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.conv = nn.Conv2d(1, 4, 3)
            self.fc = nn.Linear(4, 3)
        self.form = form
        self.input_size = (1, 8, 8)

    def forward(self, x: Tensor) -> Any:
        features = torch.relu(self.conv(x))
        logits = self.fc(features.mean((2, 3)))
        return logits if self.form is None else self.form(logits, features)


EXPECTED = Net()(PIXELS).detach()


def tuple_(z: Tensor, f: Tensor) -> Any:
    return z, f


def dict_(z: Tensor, f: Tensor) -> Any:
    return OrderedDict(features=f, out=z)


def dataclass_(z: Tensor, f: Tensor) -> Any:
    return Both(f, z)


def named(z: Tensor, f: Tensor) -> Any:
    return Pair(z, z + 1)


def nested(z: Tensor, f: Tensor) -> Any:
    return {"a": {"logits": z}, "b": [f]}


@pytest.mark.parametrize("form", [tuple_, dict_, dataclass_, named, nested])
def test_the_only_logits_are_picked_out(form: Callable[[Tensor, Tensor], Any]) -> None:
    network = adapt(Net(form), "net").eval()
    assert torch.equal(network(PIXELS), EXPECTED)
    assert any("taken as the logits" in note for note in notes_on(network))
    assert [name for name, _ in network.named_modules()] == ["", "conv", "fc"]
    for twin in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert torch.equal(twin(PIXELS), EXPECTED)
        assert twin.state_dict().keys() == Net().state_dict().keys()


def test_one_of_several_is_chosen_by_its_name() -> None:
    def three(z: Tensor, f: Tensor) -> Any:
        return {"main": z, "side": 2 * z}

    with pytest.raises(CannotRunError, match="--output main"):
        adapt(Net(three), "net")
    assert torch.equal(adapt(Net(three), "net", output="side")(PIXELS), 2 * EXPECTED)
    with pytest.raises(UsageError, match=r"no output 'x'.*main .N, 3."):
        adapt(Net(three), "net", output="x")
    assert torch.equal(adapt(Net(lambda z, f: (z, 2 * z)), "net", output="1")(PIXELS), 2 * EXPECTED)


@pytest.mark.parametrize("column", [True, False])
def test_one_logit_is_two_classes_whose_softmax_is_its_sigmoid(column: bool) -> None:
    network = adapt(Net(lambda z, f: z[:, :1] if column else z[:, 0]), "net")
    logits = network(PIXELS)
    assert torch.allclose(logits.softmax(1)[:, 1], EXPECTED[:, 0].sigmoid())
    assert any("one number" in note for note in notes_on(network))


def test_a_picked_network_is_studied_in_memory_like_the_plain_one() -> None:
    labels = EXPECTED.argmax(1)
    plain, picked = (probe.wrap(network, mean=0, std=1) for network in (Net(), Net(tuple_)))
    reports = [
        probe.adversarial(model, (PIXELS, labels), eps=0.1, attacks="pgd", views=["curve"])
        for model in (plain, picked)
    ]
    assert reports[0]["robust_accuracy"].value == reports[1]["robust_accuracy"].value
    assert any("taken as the logits" in line for line in reports[1].warnings)
    assert probe.anatomy(Net(tuple_))["parameters"].value == probe.anatomy(Net())["parameters"].value


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_precisions_are_studied_in_float32(dtype: torch.dtype) -> None:
    network = adapt(Net().to(dtype), "net")
    assert network(PIXELS).dtype == torch.float32
    assert str(dtype).removeprefix("torch.") in notes_on(network)[0]


WRAPPERS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "data parallel": nn.DataParallel,
    "compiled": lambda net: torch.compile(net),  # type: ignore[dict-item, return-value]
    "averaged": torch.optim.swa_utils.AveragedModel,
    "twice": lambda net: nn.DataParallel(torch.optim.swa_utils.AveragedModel(net)),
}


@pytest.mark.parametrize("name", WRAPPERS)
def test_wrappers_are_taken_off(name: str) -> None:
    wrapped = WRAPPERS[name](Net())
    network = adapt(wrapped, "net")
    assert type(network) is Net
    assert torch.equal(network(PIXELS), EXPECTED)
    assert notes_on(network)


def test_lazy_modules_get_their_shapes_from_the_first_pass() -> None:
    network = nn.Sequential(nn.LazyConv2d(4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3))
    network.input_size = (1, 8, 8)  # type: ignore[assignment]
    adapted = adapt(network, "net")
    assert sum(parameter.numel() for parameter in adapted.parameters()) == 4 * 9 + 4 + 4 * 36 * 3 + 3


class Needs(Net):
    def forward(self, x: Tensor, meta: Any) -> Any:  # type: ignore[override]
        return super().forward(x)


class Batch16(Net):
    def forward(self, x: Tensor) -> Any:
        return self.fc(torch.relu(self.conv(x)).mean((2, 3)).view(16, 4))


class Exits(Net):
    def forward(self, x: Tensor) -> Any:
        raise SystemExit(0)


class Casts(Net):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x.double())


class Raises(Net):
    def forward(self, x: Tensor) -> Any:
        raise KeyError("no such thing")


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Needs, ("'meta'", "wrap")),
        (Batch16, ("batches of 16", "flatten")),
        (Exits, ("ends the program",)),
        (Casts, ("float32",)),
        (Raises, ("no such thing", "test_adapt.py, line")),
    ],
)
def test_only_a_shape_error_speaks_of_the_size(kind: type[nn.Module], words: tuple[str, ...]) -> None:
    with pytest.raises(CannotRunError) as caught:
        measure(kind().eval(), (1, 8, 8), "net")
    assert not isinstance(caught.value, ShapeError)
    assert "--img-size" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_a_shape_error_does() -> None:
    with pytest.raises(ShapeError, match="--img-size"):
        measure(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), (1, 9, 9), "net")


def test_picking_is_by_the_networks_own_class() -> None:
    network = with_output(Net(tuple_), OutputPick((0,)))
    assert isinstance(network, Net)
    assert type(network).__name__ == "Net"
    assert type(with_output(Net(tuple_), OutputPick((0,)))) is type(network)


def test_the_module_handed_over_keeps_its_class() -> None:
    own = Net(tuple_)
    wrap(own, mean=0, std=1)
    assert type(own) is Net
    assert isinstance(own(PIXELS), tuple)


class Shrinks(Net):
    """Returns two rows for any larger batch, as a forward with a wrong view may."""

    def forward(self, x: Tensor) -> Any:
        return super().forward(x)[:2]


@pytest.mark.parametrize("study", [probe.filters, probe.adversarial, probe.ablate])
def test_a_network_with_fewer_answers_than_images_is_refused(study: Callable[..., Any]) -> None:
    how = {"mode": "lesion", "remove": "relu"} if study is probe.ablate else {}
    with pytest.raises(CannotRunError, match="2 rows of logits for a batch of 5"):
        study(probe.wrap(Shrinks(), mean=0, std=1), PIXELS, **how)


class _Labelled(nn.Module):
    """Takes labels besides the images, and returns a dictionary, as networks of Hugging Face do."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 5)

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        maps = self.conv(pixel_values).relu()
        logits = self.head(maps.mean((2, 3)))
        loss = {} if labels is None else {"loss": nn.functional.cross_entropy(logits, labels)}
        return {"logits": logits, "maps": maps, **loss}


def test_a_network_whose_logits_are_picked_out_can_be_traced_by_itself() -> None:
    from probe.graph.trace.trace import trace

    torch.manual_seed(0)
    plain, images = _Labelled().eval(), torch.rand(2, 3, 8, 8)
    expected = plain(images)["logits"]
    graph = trace(adapt(copy.deepcopy(plain), "net"), images)
    assert torch.allclose(graph(images), expected, atol=1e-6)
    assert {"conv", "head"} <= set(graph.meta["layers"])
