"""An ImageSet reads what it is asked for, leaves out what cannot be read, and says so."""

from __future__ import annotations

import gc
import threading
import time
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from probe.core.errors import CannotRunError, UsageError
from probe.core.subject import Skipped
from probe.data.images import ImageSet, InputSpec, Item, LazyItems, UnreadableError, array_items, printable

SPEC = InputSpec((1, 2, 2), 1.0)


def numbered(
    count: int, bad: set[int] = frozenset(), classes: int | None = 3, reads: Counter | None = None
) -> ImageSet:
    """Images whose every pixel is their own number; those in ``bad`` cannot be read."""

    def make(i: int) -> Item:
        def read() -> Image.Image:
            if reads is not None:
                reads[i] += 1
            if i in bad:
                raise UnreadableError(f"fault {i}")
            return Image.new("L", (2, 2), i)

        return Item(f"image {i}", None if classes is None else i % classes, read)

    names = None if classes is None else tuple("abcdefgh"[:classes])
    return ImageSet("numbers", LazyItems(count, make), names, "folder", source="made here", framed=True)


def numbers(images: torch.Tensor) -> list[int]:
    return (images[:, 0, 0, 0] * 255).round().int().tolist()


def reading_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("probe-read")]


def test_batches_hold_images_labels_and_indices_in_order():
    batches = list(numbered(7).batches(SPEC, 3))
    assert [batch.indices for batch in batches] == [(0, 1, 2), (3, 4, 5), (6,)]
    assert [numbers(batch.images) for batch in batches] == [[0, 1, 2], [3, 4, 5], [6]]
    assert [batch.labels.tolist() for batch in batches] == [[0, 1, 2], [0, 1, 2], [0]]
    assert all(batch.images.dtype == torch.float32 and batch.labels.dtype == torch.int64 for batch in batches)
    assert batches[0].images.shape == (3, 1, 2, 2)


def test_unlabelled_sets_give_no_labels():
    images = numbered(2, classes=None)
    assert not images.labelled
    assert images.num_classes is None
    assert images.label(1) is None
    assert next(images.batches(SPEC, 2)).labels is None


def test_asked_for_indices_come_in_the_order_asked():
    batches = list(numbered(9).batches(SPEC, 2, indices=[5, 0, 5, -1]))
    assert [batch.indices for batch in batches] == [(5, 0), (5, 8)]
    assert [numbers(batch.images) for batch in batches] == [[5, 0], [5, 8]]


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 25), st.sets(st.integers(0, 24)), st.integers(1, 9))
def test_each_batch_has_what_can_be_read_of_its_own_places(count, bad, size):
    images = numbered(count, bad)
    good = [i for i in range(count) if i not in bad]
    if not good:
        with pytest.raises(CannotRunError):
            list(images.batches(SPEC, size))
        return
    batches = list(images.batches(SPEC, size))
    assert [i for batch in batches for i in batch.indices] == good
    assert [n for batch in batches for n in numbers(batch.images)] == good
    parts = [
        [i for i in range(start, min(start + size, count)) if i not in bad] for start in range(0, count, size)
    ]
    assert [list(batch.indices) for batch in batches] == [part for part in parts if part]
    assert images.skipped == tuple(Skipped(f"image {i}", f"fault {i}") for i in sorted(bad) if i < count)


def test_what_was_unreadable_is_noted_once_and_not_tried_again():
    reads: Counter = Counter()
    images = numbered(4, {1, 2}, reads=reads)
    for _ in range(3):
        list(images.batches(SPEC, 2))
    with pytest.raises(UnreadableError, match="fault 1"):
        images.get(1, SPEC)
    assert images.skipped == (Skipped("image 1", "fault 1"), Skipped("image 2", "fault 2"))
    assert reads == {0: 3, 1: 1, 2: 1, 3: 3}


def test_what_was_found_stands_before_what_could_not_be_read():
    images = numbered(3, {1})
    images.skipped_before = (Skipped("notes.txt", "not an image"),)
    list(images.batches(SPEC, 2))
    info = images.info(2)
    assert info.skipped == (Skipped("notes.txt", "not an image"), Skipped("image 1", "fault 1"))
    assert (info.name, info.n, info.total, info.labelled, info.source) == ("numbers", 2, 3, True, "made here")


def test_nothing_readable_names_the_first_reasons():
    with pytest.raises(CannotRunError) as caught:
        list(numbered(5, set(range(5))).batches(SPEC, 2))
    text = str(caught.value)
    assert "image 0: fault 0; image 1: fault 1; image 2: fault 2; and 2 more" in text
    assert "\n" not in text
    assert "fault 3" not in text


def test_nothing_asked_for_is_no_error():
    assert list(numbered(5).batches(SPEC, 2, indices=[])) == []


def test_get_reads_one_image():
    images = numbered(5, {3})
    assert torch.equal(images.get(2, SPEC), torch.full((1, 2, 2), np.float32(2) / np.float32(255)))
    assert torch.equal(images.get(-1, SPEC), torch.full((1, 2, 2), np.float32(4) / np.float32(255)))
    with pytest.raises(UnreadableError, match=r"^fault 3$"):
        images.get(3, SPEC)
    assert images.skipped == (Skipped("image 3", "fault 3"),)
    with pytest.raises(IndexError):
        images.get(5, SPEC)


@pytest.mark.parametrize("size", [0, -1])
def test_a_batch_size_without_meaning_is_refused_at_once(size):
    with pytest.raises(UsageError, match="batch size"):
        numbered(3).batches(SPEC, size)


def test_a_model_with_other_channels_is_refused_at_once():
    with pytest.raises(CannotRunError, match="4 input channels"):
        numbered(3).batches(InputSpec((4, 2, 2)), 1)
    with pytest.raises(CannotRunError, match="4 input channels"):
        numbered(3).get(0, InputSpec((4, 2, 2)))


def test_an_error_that_is_no_fault_of_the_image_comes_through():
    def broken(_i: int) -> Item:
        return Item("x", None, lambda: 1 / 0)

    images = ImageSet("x", LazyItems(3, broken), None, "folder")
    with pytest.raises(ZeroDivisionError):
        list(images.batches(SPEC, 1))
    assert reading_threads() == []


def test_reading_stays_about_two_batches_ahead():
    reads: Counter = Counter()
    batches = numbered(500, reads=reads).batches(SPEC, 4)
    next(batches)
    time.sleep(0.1)
    assert reads.total() <= 3 * 4 + 1
    batches.close()


def test_an_abandoned_iterator_leaves_no_thread():
    batches = numbered(100).batches(SPEC, 4)
    next(batches)
    assert reading_threads()
    del batches
    gc.collect()
    assert reading_threads() == []


def test_an_error_of_the_consumer_leaves_no_thread():
    def consume() -> None:
        for _ in numbered(100).batches(SPEC, 4):
            raise RuntimeError("consumer")

    with pytest.raises(RuntimeError, match="consumer"):
        consume()
    gc.collect()
    assert reading_threads() == []


def test_two_passes_at_once_do_not_disturb_each_other():
    images = numbered(40, {3, 17})
    first, second = images.batches(SPEC, 4), images.batches(SPEC, 4)
    pairs = list(zip(first, second, strict=True))
    assert all(torch.equal(a.images, b.images) and a.indices == b.indices for a, b in pairs)
    assert len(images.skipped) == 2


def test_batches_can_be_used_for_gradients_after_inference_mode():
    images = numbered(4)
    with torch.inference_mode():
        list(images.batches(SPEC, 2))
    batch = next(images.batches(SPEC, 4))
    assert batch.images.requires_grad_().sum().backward() is None


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 60), st.integers(1, 70), st.integers(0, 99), st.sampled_from([None, 1, 3]))
def test_samples_are_subsets_in_order(count, n, seed, classes):
    images = numbered(count, classes=classes)
    sample = images.sample(n, seed)
    names = [sample.item_name(i) for i in range(len(sample))]
    assert len(sample) == min(n, count)
    assert names == sorted(set(names), key=lambda name: int(name.split()[1]))
    assert names == [item.name for item in images.sample(n, seed).items]
    assert sample.info(1).total == count
    if classes and n < count:
        taken = Counter(sample.label(i) for i in range(len(sample)))
        for label, members in Counter(i % classes for i in range(count)).items():
            assert abs(taken[label] - n * members / count) < 1


def test_different_seeds_draw_different_samples():
    draws = {tuple(item.name for item in numbered(50).sample(10, seed).items) for seed in range(10)}
    assert len(draws) == 10


def test_a_sample_of_a_sample_remembers_how_many_there_were():
    sample = numbered(50).sample(20).sample(5)
    assert (len(sample), sample.info(5).total) == (5, 50)


def test_a_sample_keeps_what_is_known_and_notes_apart():
    images = numbered(6, {1, 4})
    list(images.batches(SPEC, 2))
    part = images.subset([0, 4])
    assert part.skipped == (Skipped("image 4", "fault 4"),)
    other = numbered(6, {1, 4})
    list(other.subset([0, 1]).batches(SPEC, 2))
    assert other.skipped == ()


def test_labels_can_be_taken_off():
    labelled = numbered(6, {1})
    labelled.skipped_before = (Skipped("x", "y"),)
    list(labelled.batches(SPEC, 2))
    bare = labelled.unlabelled()
    assert (bare.labelled, bare.class_names, bare.num_classes) == (False, None, None)
    assert bare.skipped == labelled.skipped
    assert [item.name for item in bare.items] == [item.name for item in labelled.items]
    (batch,) = bare.batches(SPEC, 9)
    assert batch.labels is None
    assert numbers(batch.images) == [0, 2, 3, 4, 5]
    assert labelled.labelled


@pytest.mark.parametrize("n", [0, -3])
def test_a_sample_of_nothing_is_a_usage_error(n):
    with pytest.raises(UsageError):
        numbered(4).sample(n)


def test_the_number_of_classes_comes_from_the_names_unless_it_is_given():
    assert numbered(2, classes=3).num_classes == 3
    given_number = ImageSet("x", numbered(2).items, None, "imagenet", num_classes=1000)
    assert given_number.num_classes == 1000
    assert given_number.sample(1).num_classes == 1000


def test_items_over_arrays_are_exact_and_are_sequences():
    pixels = np.arange(2 * 3 * 4 * 3, dtype=np.uint8).reshape(2, 3, 4, 3)
    items = array_items(pixels, np.array([7, 8]), lambda i: f"no. {i}")
    assert [(item.name, item.label) for item in items] == [("no. 0", 7), ("no. 1", 8)]
    assert np.array_equal(np.asarray(items[-1].read()), pixels[1])
    assert [item.name for item in items[::-1]] == ["no. 1", "no. 0"]
    with pytest.raises(IndexError, match="no image 2 among 2"):
        items[2]


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("cat 1.png", "cat 1.png"),
        ("Käse ☕.png", "Käse ☕.png"),
        ("a\nb", "a\\nb"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("bad\udcff", "bad\\udcff"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
    ],
)
def test_names_are_safe_to_show(name, safe):
    assert printable(name) == safe
    assert printable(name).encode("utf-8")
