"""Modules that are called twice, against networks written by hand with the cut at each call."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from helpers.ablation_networks import image
from helpers.spelled_networks import Twice
from torch import Tensor, nn

from probe.core.state import fingerprint, kept_buffers
from probe.graph.edit.cut import CutSubject, cut, find_sites, prepare
from probe.graph.edit.site import Site
from probe.graph.edit.structure import STRUCTURES, SWAPS, get_structure

WORDS = ("relu", "norm", "lrn", "pool", "layer", "bias", "dropout")
ROUTES = [(route, alias) for route in ("fx", "export", "none") for alias in (False, True)]
IMAGES = image(6, channels=4, size=12, seed=9)


@cache
def subject_of(route: str, alias: bool) -> CutSubject:
    subject = prepare(Twice(route, alias).eval(), IMAGES[:2])
    assert bool(subject.reason) == (route == "none")
    assert route == "none" or subject.graph.meta["exported"] == (route == "export")
    return subject


def sites_of(subject: CutSubject, text: str, kind: str = "") -> list[Site]:
    return [site for site in find_sites(subject, get_structure(text)) if kind in site.form]


def logits(module: nn.Module, training: bool = False) -> Tensor:
    with torch.random.fork_rng(), torch.no_grad(), kept_buffers(module):
        torch.manual_seed(3)
        return module.train(training)(IMAGES)


NEEDS_A_GRAPH = "layer"


@pytest.mark.parametrize(
    ("route", "alias", "word"),
    [(*row, word) for row in ROUTES for word in WORDS if row[0] != "none" or word != NEEDS_A_GRAPH],
)
def test_every_call_is_cut(route: str, alias: bool, word: str) -> None:
    subject = subject_of(route, alias)
    kind = "MaxPool2d → Avg" if word == "pool" else ""
    sites = sites_of(subject, word, kind)
    assert len({site.name for site in sites}) == len(sites)
    before = fingerprint(subject.network)
    made, expected = cut(subject, sites), Twice(without=word).eval()
    assert torch.equal(logits(made), logits(expected))
    assert fingerprint(subject.network) == before
    if word != "dropout":
        assert not torch.allclose(logits(made), logits(subject.network), atol=1e-6)
    elif route != "none":
        assert torch.allclose(logits(made, True), logits(expected, True), atol=1e-6)


@pytest.mark.parametrize("word", ["relu", "norm", "lrn", "pool", "layer"])
@pytest.mark.parametrize(("route", "alias"), [row for row in ROUTES if row[0] != "none"])
def test_a_single_call_is_a_site_that_can_be_told(route: str, alias: bool, word: str) -> None:
    subject = subject_of(route, alias)
    sites = sites_of(subject, word, "MaxPool2d → Avg" if word == "pool" else "")
    assert len(sites) == 2
    for call, site in enumerate(sites):
        expected = Twice(without=word, calls=(call,)).eval()
        assert torch.equal(logits(cut(subject, [site])), logits(expected))
    said = [site.form.rpartition(", ")[2] for site in sites]
    if route == "fx":
        assert said == ["call 1 of 2", "call 2 of 2"]


def test_without_a_graph_the_form_says_that_each_call_is_cut() -> None:
    (site,) = sites_of(subject_of("none", True), "relu")
    assert site.form == "ReLU, cut in each of its 2 calls"


@pytest.mark.parametrize(("route", "alias"), [row for row in ROUTES if row[0] != "none"])
def test_a_filter_is_silent_in_both_calls(route: str, alias: bool) -> None:
    subject = subject_of(route, alias)
    sites = sites_of(subject, "filter")
    assert [site.operands for site in sites] == [(0,), (1,), (2,), (3,)]
    network = Twice(alias=alias).eval()

    def silenced(_module: nn.Module, _args: object, output: Tensor) -> Tensor:
        return output * (torch.arange(4) != 2).view(1, 4, 1, 1)

    network.relu.register_forward_hook(silenced)
    assert torch.equal(logits(cut(subject, [sites[2]])), logits(network))


@pytest.mark.parametrize("text", [*STRUCTURES.names(), *(f"swap:{name}" for name in SWAPS.names())])
def test_what_is_cut_together_is_what_is_cut_one_by_one(text: str) -> None:
    """Each site is there once, and after a cut nothing of the structure is left to find at these places."""
    subject = subject_of("fx", False)
    sites = sites_of(subject, text)
    assert len({(site.node, site.operands) for site in sites}) == len(sites)
    for site in sites:
        assert cut(subject, [site])(IMAGES).shape == (6, 3)
    assert cut(subject, sites)(IMAGES).shape == (6, 3)


def test_both_calls_keep_the_same_weights_and_statistics() -> None:
    made = cut(prepare(Twice().eval(), IMAGES[:2]), [])
    convolutions = [sub for sub in made.modules() if isinstance(sub, nn.Conv2d)]
    norms = [sub for sub in made.modules() if isinstance(sub, nn.BatchNorm2d)]
    assert len({id(sub.weight) for sub in convolutions}) == 1 < len(convolutions)
    assert len({id(sub.running_mean) for sub in norms}) == 1 < len(norms)
