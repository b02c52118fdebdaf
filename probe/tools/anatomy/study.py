"""The anatomy: what is a network made of, what does it cost, what does it see?"""

from __future__ import annotations

import dataclasses

from probe.core.document import Check, DataInfo, ModelInfo, Report, Result, percent
from probe.core.progress import SILENT, Progress
from probe.models.loaded import LoadedModel
from probe.report.assemble import assemble
from probe.tools.anatomy.cost_report import cost_section, field_section, layers_section, stages
from probe.tools.anatomy.examine import AnatomyConfig, Examined, examine
from probe.tools.anatomy.paths_report import base_of, binomial, paths_section
from probe.tools.anatomy.rows import along, amount, kind, memory, named, plain, power

DEFAULTS = AnatomyConfig()
NO_DATA = DataInfo("", 0, 0, False)
"""An anatomy looks at no images."""

REFERENCES = (
    "V. Dumoulin and F. Visin. A guide to convolution arithmetic for deep learning. arXiv:1603.07285, 2016.",
    "A. Veit, M. Wilber and S. Belongie. Residual networks behave like ensembles of relatively shallow networks. "
    "NeurIPS 2016.",
    "S. Xie, R. Girshick, P. Dollár, Z. Tu and K. He. Aggregated residual transformations for deep neural networks. "
    "CVPR 2017.",
)


def run(
    model: LoadedModel,
    config: AnatomyConfig = DEFAULTS,
    *,
    one: Examined | None = None,
    progress: Progress = SILENT,
    command: str = "",
) -> Report:
    """Count what a network is made of; ``one`` is what ``examine`` found, where that is known already.

    Paths are not known, and the section says why, where the network cannot be written as a graph.
    """
    if one is None:
        with progress.task("Looking at the layers", None):
            one = examine(model, config)
    return assemble(
        study="anatomy",
        title=f"What {one.name} is made of",
        model=described(one),
        data=NO_DATA,
        config=config,
        device=str(model.device),
        seed=config.seed,
        command=command,
        seconds=one.seconds,
        headline=headline(one),
        sections=(cost_section(one), field_section(one), paths_section(one), layers_section(one)),
        results=results(one),
        checks=checks(one),
        methods=methods(one),
        references=REFERENCES,
        extra=plain(one),
        key=("cost",),
    )


def described(one: Examined) -> ModelInfo:
    """Return the model with the MACs counted here, without notes on weights and normalisation: they play no part."""
    kept = tuple(note for note in one.model.notes if "random" not in note and "normalisation" not in note)
    return dataclasses.replace(one.model, macs=one.operations.macs, notes=kept)


def headline(one: Examined) -> tuple[str, ...]:
    """Return the answer in sentences: cost, where it sits, depth and paths, receptive field, memory."""
    census = one.operations
    size = "×".join(map(str, one.model.input_size))
    lines = [
        f"{one.name} has {census.parameters:,} parameters and takes {amount(census.macs)} MACs, which are "
        f"{amount(2 * census.macs)} FLOPs, for one image of {size}.",
        *_where(one),
        *_connected(one),
        *_sees(one),
        f"One image's activations need {memory(census.activations)} in float32 if all are kept, as for training, and "
        f"at most {memory(census.peak)} at once if not; the parameters need {memory(4 * census.parameters)}.",
    ]
    if census.unused:
        lines.append(
            f"{census.unused:,} of the parameters are of layers that an image does not meet in eval mode."
        )
    lines.append(f"No number here depends on the weights ({one.model.weights}).")
    return tuple(lines)


def _where(one: Examined) -> list[str]:
    census, parts = one.operations, stages(one.operations.rows)
    if not census.macs:
        return []
    dear = max(census.layers, key=lambda row: row.macs)
    large = max(parts, key=lambda stage: stage.macs)
    heavy = max(parts, key=lambda stage: stage.parameters)
    return [
        f"The largest part of the MACs is in {large.name} ({percent(large.macs / census.macs)}), of the parameters in "
        f"{heavy.name} ({percent(heavy.parameters / max(census.parameters, 1))}). The dearest of the "
        f"{len(census.layers)} layers is {named(dear)}, a {kind(dear)}, with {percent(dear.macs / census.macs)} of the "
        "MACs."
    ]


def _connected(one: Examined) -> list[str]:
    paths = one.paths
    if paths is None:
        return [
            f"Paths and depth are not known, because the network cannot be written as a graph. {one.reason}"
        ]
    if not paths.count:
        return []
    ways = "path leads" if paths.count == 1 else "paths lead"
    text = f"{power(paths.count, paths.blocks)} {ways} through it, the longest with {paths.depth} layers with weights"
    if binomial(paths):
        text += f": {paths.blocks} residual blocks in a chain, of which a path takes {paths.blocks / 2:g} in the mean"
    lines = [text[0].upper() + text[1:] + "."]
    if paths.with_groups > paths.count:
        base = base_of(paths)
        why = f"{base - 1} groups a block are the base, depth the exponent" if base is not None else ""
        bound = "at most " if paths.bounded else ""
        lines.append(
            f"With the groups of convolutions counted as parallel paths there are {bound}"
            f"{power(paths.with_groups, paths.blocks)}{': ' + why if why else ''}."
        )
    return lines


def _sees(one: Examined) -> list[str]:
    reach, last = one.operations.reach, one.last
    if reach is None or last is None:
        return ["Its last layers let every position meet every other: what a unit sees is the whole image."]
    height = one.operations.image[0]
    apart = "" if reach.jump is None else f"; neighbouring units are {along(reach.jump)} pixels apart"
    gates = (
        "; through gates or norms of the whole map it also depends on the rest of the image"
        if reach.note
        else ""
    )
    return [
        f"A unit of the last map ({named(last)}, {along(last.output[1:], pair=True)}) sees "
        f"{along(reach.size, pair=True)} pixels, {reach.size[0] / height:.3g} times the image's height{apart}{gates}."
    ]


def results(one: Examined) -> tuple[Result, ...]:
    """Return the numbers, those that stand at the top of the page first."""
    census, paths, reach = one.operations, one.paths, one.operations.reach
    found = [
        Result("parameters", census.parameters),
        Result("GMACs", census.macs / 1e9),
        Result("activations", census.activations / 2**20, unit="MiB"),
        Result("receptive_field", None if reach is None else reach.size[0], unit="pixels"),
        Result("GFLOPs", 2 * census.macs / 1e9),
        Result("activations_at_once", census.peak / 2**20, unit="MiB"),
        Result("unused_parameters", census.unused),
        Result("layers", len(census.layers)),
        Result("jump", None if reach is None or reach.jump is None else reach.jump[0], unit="pixels"),
    ]
    if paths is not None:
        found += [
            Result("depth", paths.depth, unit="layers"),
            Result("residual_blocks", paths.blocks),
            # Whole numbers of any length, as text: programs would round them.
            Result("paths", str(paths.count)),
            Result("paths_with_groups", str(paths.with_groups)),
        ]
    return tuple(found)


def checks(one: Examined) -> tuple[Check, ...]:
    """Return whether the tensors and torch's own counter agree with the formulas."""
    windows = [row for row in one.operations.rows if row.window is not None and row.input]
    wrong = [row for row in windows if row.window and row.window.output_size(row.input[1:]) != row.output[1:]]
    equal = one.counted == one.operations.macs
    return (
        Check(
            "output sizes",
            "fail" if wrong else "pass",
            len(windows) - len(wrong),
            f"{len(windows) - len(wrong)} of {len(windows)} windowed layers give maps of the size that the formula says"
            + (f"; {named(wrong[0])} does not." if wrong else "."),
        ),
        Check(
            "MACs against torch's FLOP counter",
            "pass" if equal else "warn",
            one.counted,
            f"Twice the {one.operations.macs:,} MACs are what torch counts."
            if equal
            else f"torch's counter has {one.counted:,} MACs, the formulas {one.operations.macs:,}: an operation is counted "
            "by one of them alone.",
        ),
    )


def methods(one: Examined) -> tuple[str, ...]:
    """Return how it was counted."""
    return (
        f"Layers, parameters and multiply-accumulates (MACs) of {one.name} were counted from the tensor operations of "
        f"one forward pass in eval mode on an input of {'×'.join(map(str, one.model.input_size))}.",
        "Convolutions and matrix products were counted; biases, normalisation, activations and pooling were not.",
        "Receptive fields were followed exactly through all operations.",
        "Paths were counted along the network's graph, either value of an addition or concatenation being a way "
        "(Veit et al. 2016), and again with each group of a convolution as a way (Xie et al. 2017).",
    )
