"""The anatomy study: the layers of a network, their cost and their receptive fields."""

from __future__ import annotations

import dataclasses

from probe.core.document import Check, Report, Result, percent
from probe.core.progress import SILENT, Progress
from probe.core.subject import DataInfo, ModelInfo
from probe.models.loaded import LoadedModel
from probe.report.assemble import assemble
from probe.tools.anatomy.cost_report import cost_section, field_section, layers_section, stages
from probe.tools.anatomy.examine import AnatomyConfig, Examined, examine
from probe.tools.anatomy.paths_report import base_of, binomial, paths_section
from probe.tools.anatomy.rows import along, amount, kind, memory, plain, power, row_name

DEFAULTS = AnatomyConfig()
NO_DATA = DataInfo("", 0, 0, False)
"""An anatomy needs no images."""

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
    examined: Examined | None = None,
    progress: Progress = SILENT,
    command: str = "",
) -> Report:
    """Return a report on the layers of a network; ``examined`` is the result of ``examine``, if available.

    If the network cannot be traced, its paths are not known, and the section says why.
    """
    network = examined
    if network is None:
        with progress.task("Looking at the layers", None):
            network = examine(model, config)
    return assemble(
        study="anatomy",
        title=f"Anatomy of {network.name}",
        model=model_info(network),
        data=NO_DATA,
        config=config,
        device=str(model.device),
        seed=config.seed,
        command=command,
        seconds=network.seconds,
        headline=headline(network),
        sections=(
            cost_section(network),
            field_section(network),
            paths_section(network),
            layers_section(network),
        ),
        results=results(network),
        checks=checks(network),
        methods=methods(network),
        references=REFERENCES,
        extra=plain(network),
        key=("cost",),
    )


def model_info(network: Examined) -> ModelInfo:
    """Return the model with the MACs counted here, without the notes on weights and normalisation."""
    notes = tuple(
        note for note in network.model.notes if "random" not in note and "normalisation" not in note
    )
    return dataclasses.replace(network.model, macs=network.operations.macs, notes=notes)


def headline(network: Examined) -> tuple[str, ...]:
    """Return the summary: cost and its distribution, depth and paths, receptive field, memory."""
    census = network.operations
    size = "×".join(map(str, network.model.input_size))
    lines = [
        f"{network.name} has {census.parameters:,} parameters and needs {amount(census.macs)} MACs "
        f"({amount(2 * census.macs)} FLOPs) for one image of {size}.",
        *_where(network),
        *_connected(network),
        *_sees(network),
        f"The activations of one image need {memory(census.activations)} in float32 if all are kept, as in training, and "
        f"at most {memory(census.peak)} otherwise; the parameters need {memory(4 * census.parameters)}.",
    ]
    if census.unused:
        lines.append(
            f"{census.unused:,} of the parameters belong to layers that this forward pass in eval mode does not use."
        )
    lines.append(
        "These numbers come from the operations and the shapes of one forward pass, not from the values of the weights "
        f"({network.model.weights})."
    )
    return tuple(lines)


def _where(network: Examined) -> list[str]:
    census, parts = network.operations, stages(network.operations.rows)
    if not census.macs:
        return []
    dear = max(census.layers, key=lambda row: row.macs)
    large = max(parts, key=lambda stage: stage.macs)
    heavy = max(parts, key=lambda stage: stage.parameters)
    ties = sum(row.macs == dear.macs for row in census.layers) - 1
    same = f", as much as each of {ties} other{'' if ties == 1 else 's'}" if ties else ""
    lines = [
        f"The part with the most MACs is {large.name} ({percent(large.macs / census.macs)}), that with the most parameters "
        f"{heavy.name} ({percent(heavy.parameters / max(census.parameters, 1))})."
    ]
    if row_name(dear) != large.name:
        lines[0] += (
            f" Of the {len(census.layers)} layers, {row_name(dear)}, a {kind(dear)}, has the most MACs, "
            f"{percent(dear.macs / census.macs)} of them{same}."
        )
    return lines


def _connected(network: Examined) -> list[str]:
    paths = network.paths
    if paths is None:
        return [f"Paths and depth are not known. {network.reason}"]
    if not paths.count:
        return []
    verb = "is 1 path" if paths.count == 1 else f"are {power(paths.count, paths.blocks)} paths"
    text = f"There {verb} through the network, the longest with {paths.depth} layers with weights"
    if binomial(paths):
        text += f": {paths.blocks} residual blocks in a chain, of which a path uses {paths.blocks / 2:g} on average"
    lines = [f"{text}."]
    if paths.with_groups > paths.count:
        base = base_of(paths)
        why = f"{base - 1} groups per block are the base, depth is the exponent" if base is not None else ""
        bound = "at most " if paths.bounded else ""
        lines.append(
            f"If the groups of convolutions are counted as parallel paths, there are {bound}"
            f"{power(paths.with_groups, paths.blocks)}{': ' + why if why else ''}."
        )
    return lines


def _sees(network: Examined) -> list[str]:
    reach, last = network.operations.reach, network.last
    if reach is None or last is None:
        return [
            "No receptive field is given: no layer has a map of more than one unit, or the layers mix all positions."
        ]
    height = network.operations.image[0]
    apart = "" if reach.jump is None else f"; neighbouring units are {along(reach.jump)} pixels apart"
    gates = (
        "; through gates or norms of the whole map, it also depends on the rest of the image"
        if reach.note
        else ""
    )
    return [
        f"A unit of the last map ({row_name(last)}, {along(last.output[1:], pair=True)}) has a receptive field of "
        f"{along(reach.size, pair=True)} pixels, {reach.size[0] / height:.3g} times the image height{apart}{gates}."
    ]


def results(network: Examined) -> tuple[Result, ...]:
    """Return the numbers, those at the top of the page first."""
    census, paths, reach = network.operations, network.paths, network.operations.reach
    numbers = [
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
        numbers += [
            Result("depth", paths.depth, unit="layers"),
            Result("residual_blocks", paths.blocks),
            # As text, because programs would round integers of this size.
            Result("paths", str(paths.count)),
            Result("paths_with_groups", str(paths.with_groups)),
        ]
    return tuple(numbers)


def checks(network: Examined) -> tuple[Check, ...]:
    """Return the checks of the formulas against the actual tensors and torch's own counter."""
    windows = [row for row in network.operations.rows if row.window is not None and row.input]
    wrong = [row for row in windows if row.window and row.window.output_size(row.input[1:]) != row.output[1:]]
    equal = network.counted == network.operations.macs
    return (
        Check(
            "output sizes",
            "fail" if wrong else "pass",
            len(windows) - len(wrong),
            f"{len(windows) - len(wrong)} of {len(windows)} windowed layers have the output size given by the formula"
            + (f"; {row_name(wrong[0])} does not." if wrong else "."),
        ),
        Check(
            "MACs against torch's FLOP counter",
            "pass" if equal else "warn",
            network.counted,
            f"torch also counts {network.operations.macs:,} MACs."
            if equal
            else f"torch counts {network.counted:,} MACs, the formulas {network.operations.macs:,}: at least one operation is "
            "counted differently.",
        ),
    )


def methods(network: Examined) -> tuple[str, ...]:
    """Return the methods paragraph."""
    return (
        f"Layers, parameters and multiply-accumulates (MACs) of {network.name} were counted from the tensor operations of "
        f"one forward pass in eval mode on an input of {'×'.join(map(str, network.model.input_size))}.",
        "Convolutions and matrix products were counted; biases, normalisation, activations and pooling were not.",
        "Receptive fields were computed from the windows of all operations; gates and norms over a whole map were left out.",
        "Paths were counted in the network's graph, where each input of an addition or concatenation is a separate path "
        "(Veit et al. 2016), and again with each group of a convolution as a separate path (Xie et al. 2017).",
    )
