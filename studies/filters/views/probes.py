"""Probes: how well a linear classifier reads the classes off each layer, and off an untrained network."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probe.core import seeds, stats
from probe.core.blocks import Axis, Block, Cell, Column, Figure, Note, Series, Table
from probe.core.document import Check, Result, Section, percent
from probe.core.errors import NotApplicableError
from studies.filters.registries import VIEWS
from studies.filters.representations import Representations, represent
from studies.filters.views.similarity import evenly, untrained_model
from studies.filters.workspace import FiltersWorkspace

_LAYERS = 8
_FOLDS = 5
_STEPS = 500
_PENALTY = 0.1
"""scikit-learn's C of the logistic regression: with more numbers than images, a weak penalty would only memorise."""

_READING = (
    "Each image was classified by a logistic regression that had not seen it, from what the layer says about it. The same on an "
    "untrained network shows what the architecture alone passes on, and on shuffled labels what such a classifier gets without any "
    "relation. What can be read linearly need not be what the network uses, and what cannot may still be there."
)


@dataclass(frozen=True)
class _Probed:
    """How many of ``n`` held-out images the probes of each layer classify right."""

    right: dict[str, int]
    n: int


@VIEWS.register("probes", order=9, optional=True, passes=(0, 3))
def probes(space: FiltersWorkspace) -> Section:
    """Read the classes off every layer with linear classifiers, held out, beside two controls."""
    kept = _usable(space.observed.labels.numpy())
    layers = evenly([layer.name for layer in space.maps], _LAYERS)
    untrained, reason = untrained_model(space)
    models = {"this network": space.model} | ({} if untrained is None else {"untrained": untrained})
    fits = len(layers) * (len(models) + 1)
    with space.progress.task("Probes", space.observed.n * len(models) + 10 * fits) as advance:
        found = {
            name: represent(model, space.images, layers, space.config.batch_size, advance)
            for name, model in models.items()
        }
        labels = found["this network"].labels[kept]
        order = np.random.default_rng(seeds.derive(space.config.seed, "shuffled labels")).permutation(
            len(labels)
        )
        curves = {
            name: _probe(what, kept, labels, space.config.seed, lambda: advance(10))
            for name, what in found.items()
        }
        curves["shuffled labels"] = _probe(
            found["this network"], kept, labels[order], space.config.seed, lambda: advance(10)
        )
    largest = float(np.bincount(labels).max() / len(labels))
    left_out = space.observed.n - len(kept)
    blocks: list[Block] = (
        [] if untrained is not None else [Note(f"No untrained network beside it. {reason}", "warning")]
    )
    if left_out:
        blocks.append(
            Note(f"{left_out} images were left out: theirs are classes with fewer than two labelled images.")
        )
    blocks += [_figure(layers, curves), _table(layers, curves)]
    best = max(layers, key=lambda layer: curves["this network"].right[layer])
    return Section(
        "probes",
        "Linear probes",
        f"{len(layers)} layers, {len(kept)} images of {len(np.unique(labels))} classes; the most frequent class alone "
        f"would be right on {percent(largest)}.",
        tuple(blocks),
        results=tuple(
            Result.proportion(f"probes.{layer}", curves["this network"].right[layer], len(kept))
            for layer in layers
        ),
        checks=(_check(curves["shuffled labels"], largest),),
        findings=_findings(best, curves),
    )


def _usable(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the positions of images whose class has two of them at least; raises NotApplicableError."""
    if (labels < 0).all():
        raise NotApplicableError("Probes need labelled images.")
    counts = np.bincount(labels[labels >= 0])
    kept = np.array(
        [place for place, label in enumerate(labels) if label >= 0 and counts[label] >= 2], dtype=np.int64
    )
    if len(np.unique(labels[kept])) < 2:
        raise NotApplicableError(
            "Probes need two classes with at least two labelled images each: take more images (-n)."
        )
    return kept


def _probe(
    what: Representations,
    kept: NDArray[np.int64],
    labels: NDArray[np.int64],
    seed: int,
    done: Callable[[], None],
) -> _Probed:
    """Count the held-out images that are classified right from each layer, each image once."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits

    # Images of a class with fewer of them than folds are still spread over different folds.
    folds = min(_FOLDS, int(np.bincount(labels).max()))
    split = StratifiedKFold(folds, shuffle=True, random_state=seeds.derive(seed, "probes") % 2**32)
    right = {}
    for layer, features in what.layers.items():
        classifier = make_pipeline(StandardScaler(), LogisticRegression(C=_PENALTY, max_iter=_STEPS))
        # Threads of BLAS and of torch that wait for one another made small fits seven times as slow.
        with threadpool_limits(1), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            warnings.filterwarnings("ignore", "The least populated class", UserWarning)
            said = cross_val_predict(classifier, features[kept].astype(np.float64), labels, cv=split)
        right[layer] = int((said == labels).sum())
        done()
    return _Probed(right, len(labels))


def _figure(layers: Sequence[str], curves: dict[str, _Probed]) -> Figure:
    series = []
    for name, curve in curves.items():
        bounds = [stats.wilson(curve.right[layer], curve.n) for layer in layers]
        series.append(
            Series(
                name,
                tuple(float(place) for place in range(len(layers))),
                tuple(curve.right[layer] / curve.n for layer in layers),
                tuple(low for low, _ in bounds),
                tuple(high for _, high in bounds),
            )
        )
    axis = Axis("layer", categories=tuple(layers))
    return Figure(
        "Held-out accuracy by depth", "line", axis, Axis("held-out accuracy"), _READING, tuple(series)
    )


def _table(layers: Sequence[str], curves: dict[str, _Probed]) -> Table:
    own = curves["this network"]
    columns = (
        Column("layer"),
        Column("right"),
        Column("of"),
        Column("held-out accuracy", proportion=True),
        *Column.interval(proportion=True),
        *(Column(name, proportion=True) for name in curves if name != "this network"),
    )
    rows: list[tuple[Cell, ...]] = []
    for layer in layers:
        low, high = stats.wilson(own.right[layer], own.n)
        others = [curve.right[layer] / curve.n for name, curve in curves.items() if name != "this network"]
        rows.append((layer, own.right[layer], own.n, own.right[layer] / own.n, low, high, *others))
    return Table("Linear probes in numbers", columns, tuple(rows))


def _check(shuffled: _Probed, largest: float) -> Check:
    """Warn where labels without any relation to the images are read better than by naming the most frequent class."""
    bounds = [stats.wilson(right, shuffled.n) for right in shuffled.right.values()]
    above = sum(low > largest for low, _ in bounds)
    detail = (
        f"Shuffled labels were read above the share of the most frequent class ({percent(largest)}) on {above} of "
        f"{len(bounds)} layers; chance alone does that on a few in a hundred."
    )
    return Check("probes: shuffled labels", "warn" if above else "pass", above, detail)


def _findings(best: str, curves: dict[str, _Probed]) -> tuple[str, ...]:
    own = curves["this network"]
    ties = [layer for layer, right in own.right.items() if right == own.right[best]]
    where = best if len(ties) == 1 else f"{best} (and {len(ties) - 1} more, tied)"
    text = (
        f"Linear probes read the classes best off {where}: "
        f"{percent(own.right[best] / own.n, stats.wilson(own.right[best], own.n))} of {own.n} held-out images"
    )
    untrained = curves.get("untrained")
    if untrained is None:
        return (f"{text}.",)
    return (f"{text}; off the same layer of an untrained network {percent(untrained.right[best] / own.n)}.",)
