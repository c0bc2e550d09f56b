"""Small networks, arrays for them, and walks over them."""

from collections.abc import Mapping, Sequence

import numpy as np

from basiscli.nn import models, weights
from basiscli.nn.graph import Network, backward, forward
from basiscli.nn.ops import cross_entropy
from basiscli.rng import generator
from basiscli.training.run import Run

IMAGE = {"input_shape": [8, 8, 3], "classes": 10}
# One of each kind that `unit_groups` tells apart.
MODELS = {
    "mlp": {"model": "mlp", "hidden": [12, 7]},
    "convnet": {"model": "convnet", "layout": [5, "pool", 9, 6]},
    "vgg": {"model": "vgg", "layout": [5, "pool", 9, 6]},
    "layernorm": {"model": "convnet", "layout": [5, "pool", 9, 6], "norm": "layer"},
    "resnet-A": {"model": "resnet", "depth": 14, "width": 0.25},
    "resnet-B": {"model": "resnet", "depth": 14, "width": 0.25, "shortcut": "B"},
    "resnet-18": {
        "model": "resnet",
        "stage_blocks": [2, 2],
        "stage_widths": [4, 6],
        "shortcut": "B",
        "stem": "imagenet",
    },
    "resnet-50": {
        "model": "resnet",
        "stage_blocks": [2, 2],
        "stage_widths": [3, 4],
        "shortcut": "B",
        "block": "bottleneck",
    },
    "wideresnet": {"model": "wideresnet", "depth": 10, "width": 0.5, "dropout": 0.3},
    "wideresnet-sums": {"model": "wideresnet", "depth": 10, "width": 0.5, "bias": True, "shortcut_of": "sums"},
    "sequential": {
        "model": "sequential",
        "parts": [
            {"op": "convolution", "units": 5, "kernel": 3, "stride": 1, "padding": 1, "bias": True},
            {"op": "batchnorm"},
            {"op": "activation"},
            {"op": "max_pool", "size": 2, "stride": 2, "padding": 0},
            {"op": "flatten"},
            {"op": "batchnorm"},
            {"op": "dense", "units": 7},
            {"op": "activation"},
            {"op": "dense", "units": 10},
        ],
    },
    "wideresnet-1": {"model": "wideresnet", "depth": 16, "width": 1, "norm": "layer", "activation": "gelu"},
}


def network_of(name: str, **changes: object) -> Network:
    """Build one of `MODELS` for small images."""
    return models.build(IMAGE | MODELS[name] | changes)


def arrays_of(network: Network, seeds: int = 2, dtype: type = np.float64) -> dict[str, np.ndarray]:
    """Return arrays (seeds, ...) near a real start: biases, scales and running statistics are moved off 0 and 1.

    Maps that are drawn stay as they are drawn, so a fixed map is the identity.
    """
    rng = generator(0, "arrays")
    drawn = [weights.initial(network, seed) for seed in range(seeds)]
    arrays = {path: np.stack([start[path] for start in drawn]) for path in network.weights}
    for path, values in arrays.items():
        if values.ndim == 2 and not path.endswith("stream"):
            arrays[path] = values + rng.uniform(0, 0.1, values.shape)
    return {path: values.astype(dtype) for path, values in arrays.items()}


def copied(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return a copy of every array."""
    return {path: values.copy() for path, values in arrays.items()}


def logits(network: Network, arrays: Mapping[str, np.ndarray], samples: int = 4) -> np.ndarray:
    """Return the logits (S, samples, classes) of random images."""
    images = np.random.default_rng(1).standard_normal((1, samples, *network.architecture["input_shape"]))
    return forward(network, arrays, images)[0]


def loss_and_gradient(
    network: Network,
    arrays: Mapping[str, np.ndarray],
    x: np.ndarray,
    labels: np.ndarray,
    paths: Sequence[str] | None = None,
    smoothing: float = 0.0,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return the loss (S,) of a batch in training and its gradient by the weights `paths`, else by all of them."""
    answers, _, caches = forward(network, arrays, x, train=True)
    loss, _, cache = cross_entropy.forward(answers, labels, smoothing)
    gradient = {path: np.full_like(arrays[path], np.nan) for path in paths or network.trained}
    backward(network, caches, cross_entropy.backward(cache), gradient)
    return loss, gradient


def finish(run: Run) -> Run:
    """Train to the last epoch."""
    while not run.finished:
        run.train_epoch()
    return run
