"""Train networks again with PyTorch: the same weights to begin with, the same batches, the same recipe.

    basiscli train --dataset cifar10 --model resnet --epochs 10 --seeds 3 --out runs/cifar
    python tests/benchmarks/curves.py runs/cifar/seed*.h5 [--epochs 3]

It needs PyTorch. Prints a line for each epoch of each network: train loss and test accuracy of both. Rounding differs,
so the curves part after some hundred steps; they should stay as near as those of two seeds.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from basiscli.files import networks
from basiscli.files.datasets import load_dataset
from basiscli.training.images import probe_batch
from basiscli.training.recipe import Recipe
from basiscli.training.run import Run

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.helpers.pytorch import logits_of


def curve(run: Run, epochs: int | None) -> Iterator[tuple[float, float]]:
    """Train the one network of a run in PyTorch; yield train loss and test accuracy of each epoch, or of the first."""
    network, recipe = run.network, run.recipe
    p = {path: torch.tensor(values[0]) for path, values in run.arrays.items()}
    for path in network.trained:
        p[path].requires_grad_()
    groups = [[path for path in network.trained if network.weights[path].decays == decays] for decays in (True, False)]
    optimizer = torch.optim.SGD(
        [
            {"params": [p[path] for path in group], "weight_decay": decay}
            for group, decay in zip(groups, (recipe.weight_decay, 0), strict=True)
        ],
        lr=recipe.lr, momentum=recipe.momentum, nesterov=recipe.nesterov,
    )  # fmt: skip
    for run.epoch in range(epochs or recipe.epochs):
        batches = ([values[:, n] for values in inputs] for inputs in run._batches() for n in range(inputs[0].shape[1]))
        losses = [step(run, p, optimizer, *batch) for batch in batches]
        yield float(np.mean(losses)), accuracy(run, p)


def step(run: Run, p: dict, optimizer, chosen, moves, labels: np.ndarray, rate: np.ndarray, number) -> float:
    """Make one step and return its loss."""
    for group in optimizer.param_groups:
        group["lr"] = float(rate[0])
    optimizer.zero_grad()
    logits = logits_of(torch, run.network, p, torch.tensor(run._images(chosen, moves)[0]))
    loss = torch.nn.functional.cross_entropy(
        logits, torch.tensor(labels[0]), label_smoothing=run.recipe.label_smoothing
    )
    loss.backward()
    optimizer.step()
    return loss.item()


@torch.no_grad()
def accuracy(run: Run, p: dict) -> float:
    """Return the share of test images that the network names rightly."""
    hits, split = 0, run.dataset.test
    for start in range(0, len(split.labels), 500):
        rows = range(start, min(start + 500, len(split.labels)))
        images, labels = probe_batch(split, run.standard, rows)
        found = logits_of(torch, run.network, p, torch.tensor(images[0]), training=False).argmax(1)
        hits += int((found.numpy() == labels[0]).sum())
    return hits / len(split.labels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="+")
    parser.add_argument("--epochs", type=int, help="only so many, of each network's own schedule")
    options = parser.parse_args()
    for path in options.networks:
        loaded = networks.load(path)
        recipe, history = Recipe.from_stored(loaded.file.training), loaded.file.history
        run = Run.start(loaded.network, recipe, load_dataset(loaded.file.dataset["name"]), [loaded.file.seed])
        for epoch, (loss, hits) in enumerate(curve(run, options.epochs)):
            row = {"path": path, "epoch": epoch + 1}
            row |= {name: float(history[name][epoch]) for name in ("train_loss", "test_accuracy")}
            row |= {"pytorch_train_loss": loss, "pytorch_test_accuracy": hits}
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
