"""Random noise compared with the attack."""

from __future__ import annotations

from probe.core.document import Check
from studies.adversarial.checks._common import (
    count,
    criterion_text,
    exceeds_chance,
    fail_or_warn,
    fraction_text,
    hint,
    images,
    sample,
)
from studies.adversarial.evidence import Evidence
from studies.adversarial.registries import CHECKS

NAME = "Random noise"


@CHECKS.register("random-noise")
def random_noise(evidence: Evidence) -> Check:
    """Compare the run's attacks with ten draws of noise of size epsilon.

    Carlini et al. 2019: an attack has to beat random perturbations, image by image and in number. The value is the
    number of images that noise broke, 0 where the attacks broke everything.
    """
    n = sample(evidence)
    if bool(evidence.chosen.all()):
        return Check(
            NAME, "pass", 0, f"All {images(n)} were broken by the attacks, so noise cannot do better."
        )
    noise, ours = count(evidence.noise), count(evidence.chosen)
    missed = count(evidence.noise & ~evidence.chosen)
    equal = noise >= ours and ours < n
    fired = exceeds_chance(missed, n) or (exceeds_chance(noise, n) and equal)
    more = hint(
        fired, "the attack does no better than noise: use `--attack standard` or more steps", evidence
    )
    detail = (
        f"Ten draws of noise broke {fraction_text(noise, n)} and the run's attacks broke {ours}; {missed} were "
        f"broken by noise alone ({criterion_text(n)}, and fewer in total than the attacks){more}."
    )
    return Check(NAME, fail_or_warn(evidence) if fired else "pass", noise, detail)
