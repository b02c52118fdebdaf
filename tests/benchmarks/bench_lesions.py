"""All single-site lesions of a 56-layer residual network on 500 32×32 images, against the plain way, in one run.

Run with ``make bench`` or ``python tests/benchmarks/bench_lesions.py``. The plain way copies the network, cuts it and
evaluates everything again in float32; both start from the same loaded network and answer the same images.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable

import torch
from ceiling import told
from device import DEVICE, wait
from torch import Tensor, nn

from probe.core.allocator import kept_pages
from probe.core.seeds import generator
from probe.graph.edit.cut import CutSubject, cut, find_sites, prepare
from probe.graph.edit.site import Site
from probe.graph.edit.structure import get_structure
from probe.models.load import load_model
from probe.models.loaded import LoadedModel
from studies.ablation.evaluate import Answers, EvaluationBatch, Evaluator

IMAGES = 500
BATCH = 100
WORDS = ("shortcut", "block")


def batches(model: LoadedModel) -> list[EvaluationBatch]:
    """Return images of noise and labels; what a network answers does not matter for the time."""
    pixels = torch.rand((IMAGES, *model.input.size), generator=generator(0, "images"))
    labels = torch.zeros(IMAGES, dtype=torch.int64)
    pairs = zip(torch.split(pixels, BATCH), torch.split(labels, BATCH), strict=True)
    return [EvaluationBatch(x.to(DEVICE, memory_format=model.memory_format), y.to(DEVICE)) for x, y in pairs]


def plain(
    subject: CutSubject, sites: list[Site], model: LoadedModel, data: list[EvaluationBatch]
) -> list[Answers]:
    """Copy, cut, evaluate everything again, one site after the other."""
    found = []
    for site in sites:
        own = CutSubject(copy.deepcopy(subject.network), subject.example)
        network: nn.Module = cut(own, [site])
        with torch.inference_mode():
            parts = [
                Answers.of(network(model.module.normalise(b.images.contiguous())), b.labels) for b in data
            ]
        found.append(Answers.join(parts))
    return found


def main() -> None:
    """Print both times, their ratio, and whether every prediction is the same."""
    model = load_model("zoo:resnet56", weights="none", device=str(DEVICE))
    example = torch.rand((2, *model.input.size), generator=generator(0, "example")).to(DEVICE)
    data = batches(model)
    # The plain way comes first, before probe has set anything in the process.
    plainly = {word: timed(lambda word=word: _plainly(model, example, word, data)) for word in WORDS}
    for word, (slow, theirs) in plainly.items():

        def lesioned(word: str = word) -> list[Answers]:
            subject = prepare(model.network, example)
            sites = find_sites(subject, get_structure(word))
            return list(Evaluator(model, subject, [cut(subject, [site]) for site in sites]).answer(data)[1:])

        with kept_pages():
            fast, ours = timed(lesioned)
            of_ceiling = told(lesioned, fast)
        differ = sum(int((a.predictions != b.predictions).sum()) for a, b in zip(ours, theirs, strict=True))
        print(
            f"{len(ours)} lesions ({word}) of resnet56, {IMAGES} images: {fast:.1f} s, plain way {slow:.1f} s: "
            f"{slow / fast:.1f}× as fast; {differ} of {len(ours) * IMAGES} predictions differ"
        )
        print(f"  {of_ceiling}")


def _plainly(model: LoadedModel, example: Tensor, word: str, data: list[EvaluationBatch]) -> list[Answers]:
    subject = prepare(model.network, example)
    return plain(subject, list(find_sites(subject, get_structure(word))), model, data)


def timed(work: Callable[[], list[Answers]]) -> tuple[float, list[Answers]]:
    """Return seconds and result."""
    start = time.perf_counter()
    result = work()
    wait()
    return time.perf_counter() - start, result


if __name__ == "__main__":
    main()
