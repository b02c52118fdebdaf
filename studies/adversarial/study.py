"""The adversarial study: how robust is the network, and can that number be trusted?"""

from __future__ import annotations

import dataclasses
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from torch import nn

from probe.attacks.norms import Norm, get_norm
from probe.attacks.select import SelectedAttack, choose_attacks
from probe.certify.options import KINDS as CERTIFICATES
from probe.core.document import Check, Report, Result, Section
from probe.core.errors import UsageError
from probe.core.journal import NOTHING, Journal
from probe.core.place import Place
from probe.core.progress import SILENT, Progress
from probe.core.state import kept_buffers, training_mode
from probe.data.images import ImageSet
from probe.data.shards import reading
from probe.models.chain import data_info
from probe.models.loaded import LoadedModel
from probe.models.pair import notes_of_others
from probe.report.assemble import assemble
from studies.adversarial.adapt import adapt, adapted_section
from studies.adversarial.attack_run import AttackRun, attacked_model, make_task
from studies.adversarial.config import DEFAULT_ATTACKS, DEFAULT_L0_ATTACKS, AdversarialConfig
from studies.adversarial.evidence import SAMPLE, Evidence
from studies.adversarial.export import samples, save_images, with_images
from studies.adversarial.microbatch import MicroBatcher
from studies.adversarial.registries import CHECKS, VIEWS
from studies.adversarial.results import Results
from studies.adversarial.targets import parse_target
from studies.adversarial.text import INDEPENDENT, Reliability, headline, methods, references
from studies.adversarial.workspace import AdversarialWorkspace
from studies.base import Checker, choose_views, run_checks, run_views
from studies.checks import guessing

DEFAULTS = AdversarialConfig()


@dataclass(frozen=True)
class ComparisonModels:
    """Other models: those on which adversarial images are tested, and one to compare with."""

    transfer: tuple[LoadedModel, ...] = ()
    against: LoadedModel | None = None


def run(
    model: LoadedModel,
    images: ImageSet,
    config: AdversarialConfig = DEFAULTS,
    *,
    others: ComparisonModels = ComparisonModels(),
    progress: Progress = SILENT,
    command: str = "",
    journal: Journal = NOTHING,
) -> Report:
    """Attack a network, judge every result, and test whether the evaluation can be trusted.

    Parameters: a loaded model, images, the options, and other models. ``journal`` keeps finished batches, so that an
    interrupted run can go on. A view or a check that does not apply says why. Raises UsageError for unknown or unfit
    names and numbers; CannotRunError when no image can be read or the network answers with NaN.
    """
    return examine(model, images, config, others=others, progress=progress, command=command, journal=journal)[
        0
    ]


def examine(
    model: LoadedModel,
    images: ImageSet,
    config: AdversarialConfig = DEFAULTS,
    *,
    others: ComparisonModels = ComparisonModels(),
    progress: Progress = SILENT,
    command: str = "",
    journal: Journal = NOTHING,
) -> tuple[Report, AdversarialWorkspace]:
    """Do what ``run`` does, and return the report together with the workspace of its views."""
    started = time.perf_counter()
    if images.labelled and images.num_classes is not None:
        for network in (model, *others.transfer, *filter(None, [others.against])):
            network.check_classes(images.class_names or images.num_classes, images.name)
    _check_images(config, images)
    wanted = {
        "transfer": others.transfer,
        "against": others.against,
        **{name: name in config.certificates for name in CERTIFICATES},
        "threats": config.threats,
    }
    unused = {name for name, given in wanted.items() if not given}
    views, checks = choose_views(VIEWS, config.views, unused), _chosen_checks(config)
    with ExitStack() as stack:
        modes = train_modes(model.module)
        _enter(model, stack)
        stuck = train_modes(model.module)
        memory = MicroBatcher(config.batch_size)
        space = _attack(model, images, config, others, memory, journal, progress, stack)

        def checked(space: AdversarialWorkspace) -> tuple[Check, ...]:
            evidence = make_evidence(space, min(SAMPLE, memory.limit), modes, stuck)
            return run_checks(checks, evidence, progress) if checks else ()

        adapted = None
        if config.adapt:
            space, adapted = adapt(space, checked(space), checked)
        sections = run_views(views, space, config.seed, progress, "Computing the views")
        if adapted is None:
            results = checked(space)
        else:
            sections, results = (adapted_section(space, adapted), *sections), adapted.checks_after
        saved = save_images(space, memory.limit) if config.save_images else None
    verdict = Reliability.of(results, len(CHECKS.names()))
    report = _report(space, sections, results, verdict, memory, command, time.perf_counter() - started)
    return (report if saved is None else with_images(report, saved)), space


def _attack(
    model: LoadedModel,
    images: ImageSet,
    config: AdversarialConfig,
    others: ComparisonModels,
    memory: MicroBatcher,
    journal: Journal,
    progress: Progress,
    stack: ExitStack,
) -> AdversarialWorkspace:
    norm = get_norm(config.norm)
    target = None
    if config.target is not None:
        target = parse_target(config.target, model.class_names or images.class_names, model.num_classes)
    chosen = attacks_for(config, norm, model.input.size)
    task = make_task(config.epsilons, norm, model.input.size, config.seed)
    attacked = attacked_model(model, config.bf16)
    place = stack.enter_context(Place.opened(config.jobs, config.cluster, progress.say))
    attack_run = AttackRun(
        model,
        attacked,
        images,
        chosen,
        task,
        target,
        config.batch_size,
        memory,
        journal,
        progress,
        keep=config.save_images is not None,
        place=reading(place, images, progress.say),
    )
    results = attack_run.run()
    against = None
    if others.against is not None:
        _enter(others.against, stack)
        # The same task, so that the second network is attacked neither harder nor less hard than the first.
        against_run = dataclasses.replace(
            attack_run,
            model=others.against,
            attacked=attacked_model(others.against, config.bf16),
            journal=NOTHING,
            keep=False,
        )
        against = (others.against, against_run.run())
    for network in others.transfer:
        _enter(network, stack)
    return AdversarialWorkspace(attack_run, config, results, others.transfer, against)


def _enter(model: LoadedModel, stack: ExitStack) -> None:
    """Put a network into eval mode for the time of the stack, and keep its buffers for networks that leave it."""
    stack.enter_context(training_mode(model.module, False))
    stack.enter_context(kept_buffers(model.module))


def _check_images(config: AdversarialConfig, images: ImageSet) -> None:
    """Refuse indices of pictures that do not exist."""
    requested = config.images
    if isinstance(requested, int):
        if requested < 1:
            raise UsageError(f"--images must be at least 1; got {requested}.")
        return
    for index in requested:
        if not 0 <= index < len(images):
            raise UsageError(f"There is no image {index}; indices go from 0 to {len(images) - 1}.")


def attacks_for(
    config: AdversarialConfig, norm: Norm, size: tuple[int, ...] | None = None
) -> tuple[SelectedAttack, ...]:
    """Return the attacks that the options name, or the defaults of the norm; raises UsageError for unfit ones."""
    names = config.attacks or (DEFAULT_ATTACKS if norm.name != "L0" else DEFAULT_L0_ATTACKS)
    if "worst" in names:
        raise UsageError("There is no attack 'worst': the worst case over all attacks is always reported.")
    return choose_attacks(
        names,
        norm,
        targeted=config.target is not None,
        size=size,
        restarts=config.restarts,
        steps=config.steps,
    )


def _chosen_checks(config: AdversarialConfig) -> list[tuple[str, Checker[Evidence]]]:
    names = CHECKS.names() if config.checks is None else tuple(dict.fromkeys(config.checks))
    return [(name, CHECKS.get(name)) for name in names]


def train_modes(module: nn.Module) -> tuple[str, ...]:
    """Return the names of the submodules that are in train mode ("" is the module itself)."""
    return tuple(name for name, sub in module.named_modules() if sub.training)


def make_evidence(
    space: AdversarialWorkspace, most: int = SAMPLE, modes: tuple[str, ...] = (), stuck: tuple[str, ...] = ()
) -> Evidence:
    """Return the sample of the checks: up to ``most`` images that are classified correctly without attack."""
    return Evidence(space, space.sample[:most], modes, stuck)


def _report(
    space: AdversarialWorkspace,
    sections: tuple[Section, ...],
    checks: tuple[Check, ...],
    verdict: Reliability,
    memory: MicroBatcher,
    command: str,
    seconds: float,
) -> Report:
    model, results, config = space.model, space.results, space.config
    info = data_info(model, space.images, results.n)
    return assemble(
        study="adversarial",
        title=f"Adversarial robustness of {model.name}",
        model=model.info(),
        data=info,
        config=config,
        choices=_choices(space, memory),
        device=str(model.device),
        seed=config.seed,
        command=command,
        seconds=seconds,
        headline=headline(space, sections, verdict),
        sections=sections,
        results=_results(space, results, verdict),
        checks=checks,
        n_checks=len(CHECKS.names()),
        independent=INDEPENDENT,
        warnings=(
            *model.provenance.notes,
            *space.images.cautions,
            *_guessing(space),
            *notes_of_others((*space.transfer, *(other for other, _ in filter(None, [space.against])))),
            *memory.messages,
        ),
        extra={"verdict": {"reliable": verdict.reliable, "text": verdict.text, "reasons": verdict.reasons}},
        samples=tuple(samples(space)),
        methods=methods(space, checks, results.n),
        references=references(space, checks, sections),
        key=("curve",),
    )


def _guessing(space: AdversarialWorkspace) -> tuple[str, ...]:
    if not space.images.labelled:
        return ()
    found = guessing(space.model, int(space.results.clean_correct.sum()), space.results.n)
    if space.against is not None:
        other, theirs = space.against
        cautions = guessing(other, int(theirs.clean_correct.sum()), theirs.n)
        found += tuple(f"The other network, {other.name}: {caution}" for caution in cautions)
    return found


def _choices(space: AdversarialWorkspace, memory: MicroBatcher) -> dict[str, Any]:
    """Return what the study chose where the user left it open."""
    return {
        "attacks": [attack.text for attack in space.attacks],
        "attack options": {attack.text: dataclasses.asdict(attack.attack) for attack in space.attacks},  # type: ignore[call-overload]
        "epsilons": list(space.results.epsilons),
        "bf16": space.attacked.bf16,
        "images": [int(space.results.clean.index[place]) for place in space.shown],
        "images at once": memory.limit,
    }


def _results(space: AdversarialWorkspace, results: Results, verdict: Reliability) -> tuple[Result, ...]:
    epsilon, worst, norm = space.epsilon, results.worst, space.norm
    n_attackable, clean = int(results.correct.sum()), int(results.clean_correct.sum())
    lower, middle, upper = results.quartiles(worst)
    known = "clean_accuracy" if space.images.labelled else "clean_agreement"
    name_of_robust = space.phrases.name
    rows = [
        results.robust_accuracy(worst, epsilon, name_of_robust),
        Result.proportion(known, clean, results.n, higher_is_better=True, per_image="prediction = reference"),
        results.success_rate(worst, epsilon),
        Result("median_smallest_epsilon", middle, n_attackable, None, norm.unit or norm.name, True),
        Result("lower_quartile_smallest_epsilon", lower, n_attackable, None, norm.unit or norm.name, True),
        Result("upper_quartile_smallest_epsilon", upper, n_attackable, None, norm.unit or norm.name, True),
    ]
    rows += [
        results.robust_accuracy(outcome, epsilon, f"{name_of_robust}:{name}")
        for name, outcome in results.attacks.items()
    ]
    rows += [
        results.robust_accuracy(worst, value, f"{name_of_robust}@{value:.6g}") for value in results.epsilons
    ]
    return (*rows, Result("verdict", verdict.text))
