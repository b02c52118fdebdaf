"""The network as attacks see it: counted, in reduced precision only on the way, never switched."""

from __future__ import annotations

from contextlib import suppress

import pytest
import torch
from torch import Tensor, nn

from probe.attacks.losses import adversarial, ascent, broken, cross_entropy
from probe.attacks.model import AttackedModel


class Remembers(nn.Module):
    """A linear network that notes the type in which it computed, whether gradients were on, and the memory format."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(12, 3)
        with torch.no_grad():
            self.layer.weight.copy_(torch.linspace(-1, 1, 36).reshape(3, 12) ** 3)
            self.layer.bias.zero_()
        self.notes: list[tuple[torch.dtype, bool]] = []
        self.placed: list[bool] = []

    def forward(self, x: Tensor) -> Tensor:
        self.placed.append(x.is_contiguous(memory_format=torch.channels_last))
        logits: Tensor = self.layer(x.flatten(1))
        self.notes.append((logits.dtype, torch.is_grad_enabled()))
        return logits


def images(n: int = 2) -> Tensor:
    return torch.rand(n, 3, 2, 2, generator=torch.Generator().manual_seed(0))


def test_passes_and_gradients_are_counted_by_image() -> None:
    model = AttackedModel(Remembers())
    model(images(3))
    assert (model.queries, model.gradients) == (3, 0)
    model(images(2).requires_grad_())
    assert (model.queries, model.gradients) == (5, 2)
    with torch.no_grad():
        model(images(2).requires_grad_())
    assert (model.queries, model.gradients) == (7, 2)
    model.verdict(images(4))
    assert (model.queries, model.gradients) == (11, 2)
    ascent(model, images(2), torch.tensor([0, 1]), None, cross_entropy, repeats=3)
    assert (model.queries, model.gradients) == (17, 8)


@pytest.mark.parametrize("reduced", [False, True])
def test_reduced_precision_only_where_a_gradient_is_recorded(reduced: bool) -> None:
    module = Remembers()
    model = AttackedModel(module, bf16=reduced)
    outputs = [model(images().requires_grad_()), model(images()), model.verdict(images())]
    with torch.no_grad():
        outputs.append(model(images().requires_grad_()))
    assert all(logits.dtype == torch.float32 for logits in outputs)
    first = torch.bfloat16 if reduced else torch.float32
    assert [kind for kind, _ in module.notes] == [first, *[torch.float32] * 3]


def test_verdict_is_the_plain_module_without_gradients() -> None:
    module = Remembers()
    model = AttackedModel(module, bf16=True)
    logits = model.verdict(images().requires_grad_())
    assert not logits.requires_grad
    assert module.notes[-1] == (torch.float32, False)
    weight = module.layer.weight.detach().double()
    assert torch.allclose(logits.double(), images().double().flatten(1) @ weight.T, atol=1e-6)


def test_what_reduced_precision_takes_for_broken_is_measured_again() -> None:
    class TwoMinds(nn.Module):
        """Class 1 in bfloat16, class 0 in float32 — but for the image whose first value is above a half."""

        def forward(self, x: Tensor) -> Tensor:
            coarse = (x.flatten(1)[:, :2] @ torch.eye(2)).dtype == torch.bfloat16
            second = torch.full((len(x),), 1.0) if coarse else (x[:, 0, 0, 0] > 0.5).float()
            return torch.stack([torch.full((len(x),), 0.5), second], 1)

    batch = torch.tensor([0.2, 0.8]).reshape(2, 1, 1, 1).expand(2, 3, 2, 2).contiguous()
    labels = torch.zeros(2, dtype=torch.long)
    model = AttackedModel(TwoMinds(), bf16=True)
    logits = model(batch.clone().requires_grad_()).detach()
    assert adversarial(logits, labels, None).tolist() == [True, True]
    assert broken(model, batch, logits, labels, None).tolist() == [False, True]
    aimed = broken(model, batch, logits, labels, torch.tensor([1, 1]))
    assert aimed.tolist() == [False, True]


def test_modes_are_not_an_attacks_to_change() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(12, 3)).eval()
    model = AttackedModel(module)
    assert model.train() is model
    assert model.eval() is model
    assert not any(sub.training for sub in model.modules())
    module.train()
    model.eval()
    assert all(sub.training for sub in module.modules())


def test_watched_sees_every_pass_and_stops_also_after_an_exception() -> None:
    model = AttackedModel(Remembers())
    seen: list[tuple[Tensor, Tensor]] = []
    with suppress(ArithmeticError), model.on_forward(lambda *pair: seen.append(pair)):
        logits = model(images().requires_grad_())
        assert torch.equal(seen[0][0], images())
        assert torch.equal(seen[0][1], logits)
        assert not seen[0][0].requires_grad
        assert not seen[0][1].requires_grad
        raise ArithmeticError
    model(images())
    assert len(seen) == 1


def test_watchers_nest() -> None:
    model = AttackedModel(Remembers())
    outer: list[int] = []
    inner: list[int] = []
    with model.on_forward(lambda x, _: outer.append(len(x))):
        with model.on_forward(lambda x, _: inner.append(len(x))):
            model(images(3))
        model(images(2))
    assert (outer, inner) == ([2], [3])


def test_exact_is_float32_inside_and_restores_also_after_an_exception() -> None:
    module = Remembers()
    model = AttackedModel(module, bf16=True)
    with suppress(ArithmeticError), model.full_precision():
        model(images().requires_grad_())
        raise ArithmeticError
    assert module.notes[-1][0] == torch.float32
    assert model.bf16
    model(images().requires_grad_())
    assert module.notes[-1][0] == torch.bfloat16


def test_in_float32_the_quick_network_still_computes_the_gradients() -> None:
    plain, quick = Remembers(), Remembers()
    model = AttackedModel(plain, bf16=True, gradient_module=quick)
    with suppress(ArithmeticError), model.in_float32():
        model(images().requires_grad_())
        raise ArithmeticError
    assert [note[0] for note in quick.notes] == [torch.float32]
    assert not plain.notes
    assert model.bf16


def test_images_are_placed_as_the_network_wants_them() -> None:
    module = Remembers()
    model = AttackedModel(module, memory_format=torch.channels_last)
    first, second = model(images()), model.verdict(images())
    assert module.placed == [True, True]
    assert torch.equal(first, second)
    plain = Remembers()
    AttackedModel(plain)(images().contiguous(memory_format=torch.channels_last))
    assert plain.placed == [False]
