"""Sections on MC dropout: accuracy and loss against the number of masks, or networks, averaged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probe.core import stats
from probe.core.blocks import Axis, Cell, Column, Figure, Series, Table
from probe.core.document import Result, Section, finite, percent
from studies.ablation.dropout.arm import votes_of
from studies.ablation.dropout.mc_dropout import PASSES, McDropoutVotes, ensemble, mc_dropout
from studies.ablation.evaluate import bounded_interval, interval, mean, paired_difference
from studies.ablation.lesion import EvaluationSet
from studies.ablation.retrain import RetrainResult, Variant

Answer = tuple[NDArray[np.bool_], NDArray[np.float64]]
"""Which predictions are correct (n,) and the losses (n,)."""


@dataclass(frozen=True)
class Ensembles:
    """Means over networks trained from several seeds: for each k, by choice of networks; see ``ensemble``."""

    label: str
    by_size: list[list[Answer]]

    @property
    def all_networks(self) -> Answer:
        """The answer of all networks together."""
        return self.by_size[-1][0]

    def series(self, loss: bool) -> Series:
        """Return accuracy, or loss, against the number of networks."""
        means = [[float(np.mean(answer[loss])) for answer in answers] for answers in self.by_size]
        return Series(
            self.label,
            tuple(float(k + 1) for k in range(len(means))),
            tuple(float(np.mean(row)) for row in means),
            tuple(map(min, means)),
            tuple(map(max, means)),
        )


def votes_figure(every: Sequence[McDropoutVotes], ensembles: Sequence[Ensembles], loss: bool) -> Figure:
    """Draw accuracy or loss against the number of masks, or networks, whose probabilities are averaged."""
    name, quantity = ("loss", "negative log-likelihood, nats") if loss else ("accuracy", "accuracy")
    counts = tuple(float(count) for count in every[0].counts)
    middle = np.mean([getattr(votes, name) for votes in every], axis=0)
    # Every network draws its own masks: variances around each network's own mean are averaged.
    half = 1.96 * np.sqrt(np.mean([getattr(votes, f"{name}_sd") ** 2 for votes in every], axis=0))
    low = np.maximum(middle - half, 0.0)
    high = middle + half if loss else np.minimum(middle + half, 1.0)
    scaled = float(np.mean([getattr(votes, "scaled_loss" if loss else "scaled_right") for votes in every]))
    network_text = "one network" if not ensembles else "a network, mean over seeds"
    series = [
        Series("masks of " + network_text, counts, tuple(middle), tuple(low), tuple(high)),
        Series("weight scaling of " + network_text, (counts[0], counts[-1]), (scaled, scaled)),
        *(part.series(loss) for part in ensembles),
    ]
    better, worse = ("below", "above") if loss else ("above", "below")
    good = (
        "A good approximation: the line of weight scaling lies where the curve of the masks ends. A bad one: the "
        f"curve ends {better} it, so the mean over masks is better; or {worse} it, so the single pass is."
    )
    band = f"Band of the masks: 95% of draws of that many masks, normal approximation, from {PASSES} sampled passes. "
    more = (
        "Ensembles: mean over all choices of k networks, band from the lowest to the highest. "
        if ensembles
        else ""
    )
    if ensembles:
        good += " Ensembles far beyond the masks show that masks of one network are not independent networks."
    return Figure(
        f"{'Loss' if loss else 'Accuracy'} of the mean over masks",
        "line",
        Axis("masks averaged" + (", or networks" if ensembles else ""), "log"),
        Axis(quantity),
        band + more + good,
        tuple(line for line in series if np.isfinite(line.y).all()),
    )


_WHAT = (
    "Weight scaling is the network's single pass in eval mode, without dropout; MC dropout is the mean of the "
    "softmax probabilities over sampled masks, with dropout on and everything else in eval mode (Hinton et al. "
    "2012; Srivastava et al. 2014; Gal and Ghahramani 2016). If dropout trains an ensemble and weight scaling is "
    "its mean, the two agree."
)
_SIGNIFICANT = 0.05
_COLUMNS = (
    Column("Network", help="The network, or the arm and its seed."),
    Column(
        "Answer",
        help="How the prediction was computed: scaled weights, or the mean over masks or networks.",
    ),
    Column("n", help="Images."),
    Column("Accuracy", proportion=True, help="Images whose label has the highest probability."),
    *Column.interval("its 95% Wilson interval", proportion=True),
    Column("Loss", unit="nats", help="Mean negative log-likelihood of the true class."),
    *Column.interval("its 95% bootstrap interval over images"),
    Column("Lost", help="Images that weight scaling classifies correctly and this does not."),
    Column("Won", help="Images that this classifies correctly and weight scaling does not."),
    Column("p", help="Exact McNemar test of lost against won.", digits=2),
)


def loaded_voting_section(bench: EvaluationSet, labelled: bool, seed: int) -> Section:
    """Compare MC dropout with weight scaling for the loaded network on an evaluation set."""
    identity, title = "voting", "MC dropout: the loaded network"
    if not labelled:
        return Section(
            identity,
            title,
            reason="MC dropout is compared with labels, and these images have none: use --labels.",
        )
    normalise = bench.model.module.normalise
    votes = mc_dropout(
        bench.subject.network, [(normalise(batch.images), batch.labels) for batch in bench.batches], seed
    )
    if votes is None:
        return Section(identity, title, reason=f"{bench.model.name} has no dropout that draws masks.")
    most, n = int(votes.counts[-1]), len(votes.scaled_right)
    table = Table(
        "Weight scaling and MC dropout", _COLUMNS, tuple(_rows(bench.model.name, votes)), _reading(most)
    )
    figures = [votes_figure([votes], (), loss) for loss in (False, True)]
    return Section(
        identity,
        title,
        _WHAT,
        (table, *figures),
        results=(
            Result.proportion(
                "voting_accuracy:weight_scaling", int(votes.scaled_right.sum()), n, higher_is_better=True
            ),
            Result.proportion(
                f"voting_accuracy:mean_of_{most}_masks",
                int(votes.voted_right.sum()),
                n,
                higher_is_better=True,
            ),
            Result("voting_accuracy:one_mask", finite(float(votes.accuracy[0])), n, None, "proportion", True),
            Result("voting_loss:weight_scaling", *_mean(votes.scaled_loss), "nats", False),
            Result(f"voting_loss:mean_of_{most}_masks", *_mean(votes.voted_loss), "nats", False),
            Result("voting_loss_gain", *_mean(votes.scaled_loss - votes.voted_loss), "nats", True),
            Result("voting_p", _mcnemar(votes)[2], n),
        ),
        findings=(_loaded_words(votes, bench.model.name),),
    )


def trained_voting_section(retrained: RetrainResult, plain: Variant) -> Section | None:
    """Compare masks of every trained network with ensembles over seeds, with dropout and without; None without masks.

    ``plain`` is the variant without dropout.
    """
    depth = retrained.depths[-1]
    voted = [
        (trained.arm.seed, votes)
        for trained in retrained.of((), depth)
        if (votes := votes_of(trained.dropout)) is not None
    ]
    if not voted:
        return None
    ensembles = [
        Ensembles(label, ensemble(answers, retrained.setting.held_labels))
        for label, variant in (("ensemble, trained with dropout", ()), ("ensemble, trained without", plain))
        if (answers := _probabilities(retrained, variant, depth))
    ]
    most = int(voted[0][1].counts[-1])
    rows = [row for seed, votes in voted for row in _rows(f"with dropout, seed {seed}", votes)]
    plural = "s" if len(voted) > 1 else ""
    rows += [
        _row(group.label, f"mean of {len(group.by_size)} network{plural}", group.all_networks)
        for group in ensembles
    ]
    every = [votes for _, votes in voted]
    figures = [votes_figure(every, ensembles, loss) for loss in (False, True)]
    return Section(
        "voting-trained",
        "MC dropout: masks against ensembles of networks",
        _WHAT + " An ensemble is the mean over networks trained from different random weights.",
        (Table("Weight scaling and MC dropout", _COLUMNS, tuple(rows), _reading(most)), *figures),
        results=_trained_results(every, ensembles, most),
        findings=(_trained_words(every, ensembles, most),),
    )


def _probabilities(
    retrained: RetrainResult, variant: Variant, depth: int | None
) -> list[NDArray[np.float64]]:
    return [
        trained.dropout["probabilities"]
        for trained in retrained.of(variant, depth)
        if "probabilities" in trained.dropout
    ]


def _rows(name: str, votes: McDropoutVotes) -> list[tuple[Cell, ...]]:
    scaled: Answer = (votes.scaled_right, votes.scaled_loss)
    voted: Answer = (votes.voted_right, votes.voted_loss)
    return [
        _row(name, "weight scaling", scaled),
        _row(name, f"mean of {votes.counts[-1]} masks", voted, _mcnemar(votes)),
    ]


def _row(name: str, how: str, answer: Answer, test: tuple[int, int, float] | None = None) -> tuple[Cell, ...]:
    n_correct, n = int(answer[0].sum()), len(answer[0])
    loss, _, ci = _mean(answer[1])
    return (
        name,
        how,
        n,
        n_correct / n,
        *stats.wilson(n_correct, n),
        loss,
        *(ci or (None, None)),
        *(test or (None,) * 3),
    )


def _mean(values: NDArray[np.float64]) -> tuple[float | None, int, tuple[float, float] | None]:
    """Return the mean over images, their number, and the mean's bootstrap interval; None where these are not known."""
    n, middle = len(values), float(values.mean())
    if n < 2 or not np.isfinite(values).all():
        return finite(middle), n, None
    return middle, n, stats.bootstrap_mean(values.tolist(), seed=0)


def _mcnemar(votes: McDropoutVotes) -> tuple[int, int, float]:
    """Return the images lost and won by the mean over masks, and the p of the exact test."""
    lost = int((votes.scaled_right & ~votes.voted_right).sum())
    won = int((~votes.scaled_right & votes.voted_right).sum())
    return lost, won, stats.mcnemar_exact(lost, won)


def _reading(most: int) -> str:
    return (
        f"Lost and won compare {most} masks with weight scaling of the same network on the same images. "
        "Near-equal accuracies with a large p mean that a single pass does as well as the mean over masks; a "
        "lower loss of the mean shows that its probabilities are better, even where its predictions are the same."
    )


def _loaded_words(votes: McDropoutVotes, name: str) -> str:
    n, most = len(votes.scaled_right), int(votes.counts[-1])
    lost, won, p = _mcnemar(votes)
    scaled, voted = (
        percent(correct.mean(), stats.wilson(int(correct.sum()), n))
        for correct in (votes.scaled_right, votes.voted_right)
    )
    gain, _, ci = _mean(votes.scaled_loss - votes.voted_loss)
    verdict = "the difference is not significant"
    if p < _SIGNIFICANT:
        verdict = f"{'the mean over masks' if won > lost else 'weight scaling'} is better"
    text = (
        f"MC dropout: with weight scaling {name} classifies {scaled} of {n} images correctly, with the mean of "
        f"{most} masks {voted}, with a single mask {percent(float(votes.accuracy[0]))} (exact McNemar p = "
        f"{p:.2g}: {verdict})."
    )
    return text + (f" {_gain_words(gain, ci)}" if gain is not None and ci is not None else "")


def _gain_words(gain: float, ci: tuple[float, float], over: str = "") -> str:
    change = "lowers" if gain > 0 else "raises"
    tells = "" if ci[0] > 0 or ci[1] < 0 else ": not significant"
    return f"The mean over masks {change} the loss by {abs(gain):.3g} nats [{_interval_text(gain, ci)}]{over}{tells}."


def _interval_text(gain: float, ci: tuple[float, float]) -> str:
    low, high = ci if gain > 0 else (-ci[1], -ci[0])
    return f"{low:.3g}, {high:.3g}"


def _over(every: Sequence[McDropoutVotes], name: str) -> NDArray[np.float64]:
    return np.array([float(getattr(votes, name).mean()) for votes in every])


def _trained_words(every: Sequence[McDropoutVotes], ensembles: Sequence[Ensembles], most: int) -> str:
    scaled, voted = _over(every, "scaled_right"), _over(every, "voted_right")
    seeds = f"{len(every)} seed{'s' if len(every) > 1 else ''}"
    text = (
        f"Masks against networks, {seeds}: weight scaling reaches {percent(float(scaled.mean()))}, {most} masks "
        f"{percent(float(voted.mean()))}"
    )
    for group in ensembles:
        who = group.label.replace("ensemble,", f"an ensemble of {len(group.by_size)}")
        text += f", {who} {percent(float(group.all_networks[0].mean()))}"
    gain, ci, _ = paired_difference(_over(every, "scaled_loss"), _over(every, "voted_loss"))
    if gain is None:
        return text + "."
    if ci is None:
        change = "lowers" if gain > 0 else "raises"
        return (
            f"{text}. The mean over masks {change} the loss by {abs(gain):.3g} nats (one seed: no interval)."
        )
    return f"{text}. {_gain_words(gain, ci, f' (95% t-interval over {seeds})')}"


def _trained_results(
    every: Sequence[McDropoutVotes], ensembles: Sequence[Ensembles], most: int
) -> tuple[Result, ...]:
    results = []
    for quantity, unit in (("right", "proportion"), ("loss", "nats")):
        name = "accuracy" if quantity == "right" else "loss"
        for how, label in (("scaled", "weight_scaling"), ("voted", f"mean_of_{most}_masks")):
            values = _over(every, f"{how}_{quantity}").tolist()
            results.append(
                Result(
                    f"voting_trained_{name}:{label}",
                    mean(values),
                    len(values),
                    (bounded_interval if quantity == "right" else interval)(values),
                    unit,
                    quantity == "right",
                )
            )
    for group in ensembles:
        label = f"{'without' if 'without' in group.label else 'with'}_dropout:{len(group.by_size)}_networks"
        correct, losses = group.all_networks
        results.append(
            Result.proportion(
                f"ensemble_accuracy:{label}", int(correct.sum()), len(correct), higher_is_better=True
            )
        )
        results.append(Result(f"ensemble_loss:{label}", *_mean(losses), "nats", False))
    return tuple(results)
