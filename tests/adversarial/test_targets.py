"""Which class an attack aims at."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from probe.core.errors import UsageError
from studies.adversarial.targets import Target, parse_target

NAMES = ("tabby cat", "Tiger cat", "bulldog", "7")


def test_rules_numbers_and_names() -> None:
    assert parse_target("least-likely", NAMES, 4) == Target("least-likely")
    assert parse_target("random", None, 4) == Target("random")
    assert parse_target("2", NAMES, 4) == Target("class", 2)
    assert parse_target("0", None, 4) == Target("class", 0)
    assert parse_target("bulldog", NAMES, 4) == Target("class", 2)
    assert parse_target("TIGER CAT", NAMES, 4) == Target("class", 1)


def test_number_beyond_the_classes_is_refused() -> None:
    with pytest.raises(UsageError, match="There is no class 4: the network has classes 0 to 3"):
        parse_target("4", None, 4)
    with pytest.raises(UsageError, match="classes 0 to 3"):
        parse_target("7", NAMES, 4)


@pytest.mark.parametrize(
    ("word", "names", "message"),
    [
        ("tiger kat", NAMES, "Did you mean 'Tiger cat'"),
        ("buldog", NAMES, "'bulldog'"),
        ("-1", NAMES, "There is no class '-1'"),
        ("1.0", NAMES, "There is no class '1.0'"),
        ("cat", None, "There is no class 'cat'. --target takes"),
        ("xylophone", NAMES, "There is no class 'xylophone'. --target takes"),
        ("least_likely", None, "least-likely or random"),
        ("", NAMES, "There is no class ''"),
    ],
)
def test_other_words_are_refused_with_the_nearest_names(
    word: str, names: tuple[str, ...] | None, message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        parse_target(word, names, 4)
    assert message in str(caught.value)


@given(st.text(max_size=6))
def test_any_word_is_an_aim_or_a_usage_error(word: str) -> None:
    try:
        aim = parse_target(word, NAMES, 4)
    except UsageError:
        return
    assert aim.label is None or 0 <= aim.label < 4


def draw_logits(n: int, classes: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, classes, generator=g), torch.randint(classes, (n,), generator=g)


@given(st.integers(1, 30), st.integers(2, 9), st.integers(0, 10**6))
def test_least_likely_is_the_smallest_logit_but_the_labels(n: int, classes: int, seed: int) -> None:
    logits, labels = draw_logits(n, classes, seed)
    targets = Target("least-likely").targets(logits, labels, 0, "a").tolist()
    for row, label, target in zip(logits.tolist(), labels.tolist(), targets, strict=True):
        assert target == min((value, k) for k, value in enumerate(row) if k != label)[1]


@given(st.integers(1, 30), st.integers(2, 9), st.integers(0, 10**6))
def test_random_is_never_the_label_and_follows_seed_and_key(n: int, classes: int, seed: int) -> None:
    logits, labels = draw_logits(n, classes, seed)
    targets = Target("random").targets(logits, labels, seed, "batch 1")
    assert targets.dtype == labels.dtype
    assert ((targets >= 0) & (targets < classes) & (targets != labels)).all()
    assert torch.equal(targets, Target("random").targets(-logits, labels, seed, "batch 1"))


def test_random_differs_between_seeds_and_keys_and_is_uniform() -> None:
    logits, labels = draw_logits(4000, 5, 0)
    targets = Target("random").targets(logits, labels, 0, "a")
    assert not torch.equal(targets, Target("random").targets(logits, labels, 1, "a"))
    assert not torch.equal(targets, Target("random").targets(logits, labels, 0, "b"))
    steps = ((targets - labels) % 5).bincount(minlength=5)
    assert steps[0] == 0
    assert ((steps[1:] - 1000).abs() < 130).all()  # four and a half standard deviations


def test_random_moves_no_global_generator() -> None:
    before = torch.get_rng_state()
    Target("random").targets(*draw_logits(5, 3, 0), 0, "a")
    assert torch.equal(before, torch.get_rng_state())


def test_fixed_class_is_everyones_target_its_own_included() -> None:
    logits, labels = draw_logits(8, 4, 1)
    assert Target("class", 2).targets(logits, labels, 0, "a").tolist() == [2] * 8
    assert (labels == 2).any()
