"""One training for each of several seeds, side by side: how much a result owes to chance."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np

from probe import __version__
from probe.core.document import percent
from probe.core.jobs import portable, run_jobs, unpacked
from probe.core.journal import Arrays, FileJournal
from probe.core.paths import cache_root
from probe.core.place import Place
from probe.core.progress import SILENT, Progress
from probe.core.stats import mean_proportion
from probe.train.trained_file import TrainedNetwork
from probe.train.trainer import TrainOptions, train

_TRAINED = "trained"


def train_seeds(
    model: str,
    data: str,
    options: TrainOptions,
    seeds: int,
    *,
    jobs: int = 0,
    cluster: str | None = None,
    progress: Progress = SILENT,
) -> tuple[TrainedNetwork, ...]:
    """Train with ``seeds`` seeds from ``options.seed`` on; the file of seed 3 is called ``….seed3.safetensors``.

    ``jobs`` processes of one thread (0: one a core, at most one a seed), or the workers of a dask ``cluster`` that sees the
    same files, train side by side: the weights do not depend on their number. With ``options.resume``, trainings that were finished are
    not made again. Raises what ``train`` raises.
    """
    seeded = range(options.seed, options.seed + seeds)
    every = {str(seed): replace(options, seed=seed, numbered=True) for seed in seeded}
    kept = asdict(replace(options, resume=False, force=False))
    facts = {"version": __version__, "model": model, "data": data, "seeds": seeds, "options": kept}
    journal = FileJournal(cache_root() / "runs", facts, resume=options.resume)
    with (
        Place.opened(jobs, cluster, progress.say) as place,
        progress.task(f"Training {seeds} networks", seeds) as advance,
    ):
        found = run_jobs(
            _train,
            {key: (model, data, each) for key, each in every.items()},
            workers=min(place.jobs, seeds),
            cluster=place.cluster,
            journal=journal,
            to_arrays=_to_arrays,
            from_arrays=_from_arrays,
            advance=advance,
        )
    journal.remove()
    return tuple(found.values())


def seeds_headline(trained: tuple[TrainedNetwork, ...]) -> tuple[str, ...]:
    """Return the result of several trainings in sentences: each one's, then the mean with its interval over seeds."""
    scores = [network.record.score for network in trained]
    lines = [
        f"Seed {network.seed}: held-out accuracy {score.percent} ({score.correct} of {score.n}), {network.path}."
        for network, score in zip(trained, scores, strict=True)
    ]
    values = [score.correct / score.n for score in scores]
    mean, n = sum(values) / len(values), min(score.n for score in scores)
    lines.append(
        f"Mean of {len(values)} seeds: {percent(mean, mean_proportion(values, n))} (95% interval over seeds)."
    )
    return tuple(lines)


def _train(job: tuple[str, str, TrainOptions]) -> TrainedNetwork:
    return train(*job)


def _to_arrays(trained: TrainedNetwork) -> Arrays:
    return {_TRAINED: np.frombuffer(portable(trained), np.uint8)}


def _from_arrays(arrays: Arrays) -> TrainedNetwork:
    trained: TrainedNetwork = unpacked(arrays[_TRAINED].tobytes())
    return trained
