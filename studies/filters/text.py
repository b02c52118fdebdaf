"""Methods paragraph, references and per-image records of the filters study."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from probe.core.document import Json
from probe.core.subject import DataInfo
from probe.data.images import ImageSet
from studies.base import WILSON, subject, tools
from studies.filters.observe import Observations
from studies.filters.workspace import FiltersWorkspace

_DONE = {
    "weights": "the filters themselves, their norms, near-duplicates and singular values",
    "activations": "the channels that respond most strongly in single images",
    "patches": "the nine regions that excite a channel most, cut to its exact receptive field",
    "features": "pictures that excite a channel most, by gradient ascent in a decorrelated Fourier basis under random "
    "transformations",
    "attribution": "attribution maps with their completeness errors and their dependence on the learned weights",
    "similarity": "the similarity of layers by debiased linear CKA",
    "probes": "what linear classifiers read off them, by cross-validation",
    "concepts": "which concepts their channels point to, and which classes grow along these directions (TCAV)",
    "dissection": "which channels fire where a concept is (network dissection)",
    "trust": "which attribution maps are better than three controls (a random map, an edge detector and a blob in the middle) in deletion, "
    "insertion, ROAD, infidelity and the pointing game on mosaics",
    "stimuli": "what their channels are tuned to, by gratings of all orientations, frequencies and phases, and by colours",
    "optima": "several optimised pictures of a channel: from noise, with the Fourier magnitude of the images (MACO), unlike one another, "
    "and an accentuated image",
    "importance": "how the loss changes without single channels and the accuracy without several, beside weight norms, Taylor "
    "importance and class selectivity",
}
_WORKS = {
    "weights": (
        'Krizhevsky, Sutskever and Hinton, "ImageNet Classification with Deep Convolutional Neural Networks", 2012',
    ),
    "patches": (
        'Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", 2014',
        'Springenberg et al., "Striving for Simplicity: The All Convolutional Net", 2014',
    ),
    "features": ('Olah, Mordvintsev and Schubert, "Feature Visualization", Distill, 2017',),
    "attribution": (
        'Adebayo et al., "Sanity Checks for Saliency Maps", 2018',
        'Sundararajan, Taly and Yan, "Axiomatic Attribution for Deep Networks", 2017',
        'Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", 2017',
    ),
    "similarity": (
        'Kornblith et al., "Similarity of Neural Network Representations Revisited", 2019',
        'Song et al., "Feature Selection via Dependence Maximization", Journal of Machine Learning Research 13, 2012',
    ),
    "probes": (
        'Alain and Bengio, "Understanding intermediate layers using linear classifier probes", 2016',
        'Hewitt and Liang, "Designing and Interpreting Probes with Control Tasks", 2019',
    ),
    "concepts": (
        'Kim et al., "Interpretability Beyond Feature Attribution: Quantitative Testing with Concept Activation Vectors", 2018',
    ),
    "dissection": (
        'Bau et al., "Network Dissection: Quantifying Interpretability of Deep Visual Representations", 2017',
    ),
    "trust": (
        'Smilkov et al., "SmoothGrad: removing noise by adding noise", 2017',
        'Lundberg and Lee, "A Unified Approach to Interpreting Model Predictions", 2017',
        'Jiang et al., "LayerCAM: Exploring Hierarchical Class Activation Maps for Localization", 2021',
        'Petsiuk, Das and Saenko, "RISE: Randomized Input Sampling for Explanation of Black-box Models", 2018',
        'Bach et al., "On Pixel-Wise Explanations for Non-Linear Classifier Decisions by Layer-Wise Relevance Propagation", 2015',
        'Montavon et al., "Layer-Wise Relevance Propagation: An Overview", 2019',
        'Rong et al., "A Consistent and Efficient Evaluation Strategy for Attribution Methods", 2022',
        'Yeh et al., "On the (In)fidelity and Sensitivity of Explanations", 2019',
        'Böhle, Fritz and Schiele, "Convolutional Dynamic Alignment Networks for Interpretable Classifications", 2021',
        'Hurley and Rickard, "Comparing Measures of Sparsity", IEEE Transactions on Information Theory 55, 2009',
        'Hesterberg, "What Teachers Should Know About the Bootstrap", The American Statistician 69, 2015',
    ),
    "stimuli": (
        'Skottun et al., "Classifying simple and complex cells on the basis of response modulation", Vision Research 31, 1991',
    ),
    "optima": (
        'Olah, Mordvintsev and Schubert, "Feature Visualization", Distill, 2017',
        'Fel et al., "Unlocking Feature Visualization for Deeper Networks with MAgnitude Constrained Optimization", 2023',
        "Hamblin et al., \"Feature Accentuation: Revealing 'What' Features Respond to in Natural Images\", 2024",
        'Moisan, "Periodic plus Smooth Image Decomposition", Journal of Mathematical Imaging and Vision 39, 2011',
    ),
    "importance": (
        'Morcos et al., "On the importance of single directions for generalization", 2018',
        'Molchanov et al., "Pruning Convolutional Neural Networks for Resource Efficient Inference", 2017',
        'Molchanov et al., "Importance Estimation for Neural Network Pruning", 2019',
        'Li et al., "Pruning Filters for Efficient ConvNets", 2017',
    ),
}


def methods(space: FiltersWorkspace, data: DataInfo, views: Sequence[str]) -> tuple[str, ...]:
    """Return the sentences of the paragraph for the views of the report."""
    parts = [_DONE[name] for name in views if name in _DONE]
    sentences = [subject(space.model.info(), data)]
    if parts:
        layers = ", ".join(space.layers)
        sentences.append(f"For the layers {layers} we examined {'; '.join(parts)}.")
    sentences.append("Proportions have 95% Wilson intervals.")
    return (*sentences, tools(space.config.seed, torch.__version__))


def references(views: Sequence[str]) -> tuple[str, ...]:
    """Return the papers behind the views, each once."""
    return tuple(dict.fromkeys([work for name in views for work in _WORKS.get(name, ())] + [WILSON]))


def samples(observed: Observations, images: ImageSet) -> Iterator[dict[str, Json]]:
    """Yield one record for each image, in the order of the set: label, prediction, confidence, correctness."""
    rows = zip(
        observed.indices.tolist(),
        observed.labels.tolist(),
        observed.predictions.tolist(),
        observed.confidences.tolist(),
        strict=True,
    )
    for index, label, prediction, confidence in rows:
        yield {
            "study": "filters",
            "index": index,
            "image": images.item_name(index),
            "label": label if label >= 0 else None,
            "prediction": prediction,
            "confidence": confidence,
            "right": prediction == label if label >= 0 else None,
        }
