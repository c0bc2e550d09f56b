"""Training on a device beside training on the host: the networks, the recipe, the comparison."""

import numpy as np

from basiscli import data
from basiscli.device import placement
from basiscli.nn import models
from basiscli.rng import generator
from basiscli.training.recipe import Recipe
from basiscli.training.run import Run

SHAPE = (8, 8, 3)
NETWORKS = {
    "mlp": lambda: models.mlp(SHAPE, 5, [17, 9]),
    "mlp of gelu with layernorm": lambda: models.mlp(SHAPE, 5, [12, 12], activation="gelu", norm="layer"),
    "mlp of tanh with batchnorm": lambda: models.mlp(SHAPE, 5, [12], activation="tanh", norm="batch"),
    "convnet": lambda: models.convnet(SHAPE, 5, layout=[6, "pool", 8], pooling="average"),
    "vgg": lambda: models.vgg(SHAPE, 5, layout=[5, "pool", 6, "pool"]),
    "resnet": lambda: models.resnet(SHAPE, 5, depth=20, width=0.25),
    "resnet with projections": lambda: models.resnet(SHAPE, 5, depth=8, width=0.25, shortcut="B"),
    "wideresnet with dropout": lambda: models.wideresnet(SHAPE, 5, depth=10, width=0.25, dropout=0.3),
}
RECIPE = Recipe(epochs=1, batch_size=8, lr=0.02, weight_decay=0.01, label_smoothing=0.1, clip=1.0, augment="crop,flip")


def images(count: int = 20) -> data.Dataset:
    """Return a data set of noise in five classes."""
    rng = generator(0, "noise")
    parts = {}
    for split in ("train", "test"):
        parts[f"{split}/images"] = rng.integers(0, 256, (count, *SHAPE)).astype(np.uint8)
        parts[f"{split}/labels"] = np.arange(count) % 5
    return data.from_arrays("noise", parts)


def run_of(network, recipe: Recipe, seeds=(0, 1)) -> Run:
    return Run.start(network, recipe, images(), seeds)


def host(run: Run) -> dict[str, np.ndarray]:
    """Return the arrays of a run as numpy arrays."""
    return {path: placement.to_host(values) for path, values in run.arrays.items()}


def assert_alike(got: dict, expected: dict, start: dict, tolerance: float) -> None:
    """Compare arrays, relative to how far training moved each."""
    for path, values in expected.items():
        moved = max(np.abs(values - start[path]).max(), 1e-3)
        np.testing.assert_allclose(got[path] / moved, values / moved, rtol=0, atol=tolerance, err_msg=path)
