"""Time the path between two ResNet-20 of width 1, 25 λ × 10,000 images of CIFAR's size, beside the loop in PyTorch.

    python tests/benchmarks/interpolate.py [--images 10000] [--threads 2] [--rounds 3] [--write] [--quick]

It needs PyTorch, whose loop mixes the weights of one λ at a time and evaluates batches of images that lie ready and
standardised, in either of its layouts; ours gathers and standardises them itself. Each side is a process of its own;
they take turns, and every figure is the best of the rounds. With one thread the time is that of the processor.
--write puts the table into docs/benchmarks.md. --quick: 5 λ and 500 images.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from basiscli.nn import models, weights
from tests.benchmarks import page
from tests.benchmarks.convolution import IMAGES, TUNED, memory_format

BATCH = 250
SIDES = {
    "PyTorch, contiguous": ("pytorch:contiguous", {}),
    "PyTorch, channels_last": ("pytorch:channels_last", {}),
    "PyTorch, channels_last, malloc tuned": ("pytorch:channels_last", TUNED),
    "basiscli": ("our:", {}),
}


def clock() -> float:
    """Return the time of the processor for one thread, which a busy machine hardly changes, else that of the clock."""
    return time.process_time() if os.environ["NUMBA_NUM_THREADS"] == "1" else time.perf_counter()


def ends() -> tuple:
    """Return the network and the arrays (1, ...) of both ends."""
    network = models.build({"model": "resnet"} | IMAGES)
    drawn = [weights.initial(network, seed) for seed in (0, 1)]
    return network, [{path: values[None] for path, values in one.items()} for one in drawn]


def images(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return images (count, 32, 32, 3) uint8 and labels."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, 32, 32, 3), np.uint8), rng.integers(0, 10, count)


def our(points: int, count: int, layout: str) -> tuple[float, list[float]]:
    """Return the seconds of a path and its losses."""
    from basiscli.alignment.interpolation import Walk, curves
    from basiscli.analysis.barriers import evenly
    from basiscli.data import Split
    from basiscli.training.images import Standardisation

    network, both = ends()
    split = Split(*images(count))
    standard = Standardisation.of(split.images)
    warm = Walk(evenly(3), {"test": Split(*images(2))}, standard, np.empty((1, 0)))
    curves(warm, network, both, "none")
    walk = Walk(evenly(points), {"test": split}, standard, np.empty((1, 0)))
    start = clock()
    curve = curves(walk, network, both, "none")["test"]
    return clock() - start, curve.loss.tolist()


def pytorch(points: int, count: int, layout: str) -> tuple[float, list[float]]:
    """Return the seconds of a path and its losses."""
    import torch

    from basiscli.training.images import Standardisation
    from tests.helpers import pytorch as peer

    def batchnorm(f, p, options, x):
        return f.batch_norm(x, p["mean"], p["variance"], p["scale"], p["shift"], training=False, eps=1e-5)

    peer.OPS["batchnorm"] = batchnorm
    peer.OPS["pointwise"] = lambda f, p, options, x: torch.relu_(x)
    peer.OPS["convolution"] = lambda f, p, options, x: f.conv2d(x, p["w"], None, options["stride"], options["padding"])
    torch.set_num_threads(int(os.environ["NUMBA_NUM_THREADS"]))
    network, both = ends()
    p, q = ({path: laid_out(torch, values[0], layout) for path, values in one.items()} for one in both)
    pixels, labels = images(count)
    standard = Standardisation.of(pixels)
    x = torch.tensor((pixels - standard.mean) * standard.inverse).permute(0, 3, 1, 2)
    x, labels = x.contiguous(memory_format=memory_format(layout)).permute(0, 2, 3, 1), torch.tensor(labels)

    @torch.no_grad()
    def path(lambdas, count):
        losses = []
        for t in lambdas:
            mixed = {name: (1 - t) * p[name] + t * q[name] for name in p}
            total, hits = 0.0, 0
            for first in range(0, count, BATCH):
                part = slice(first, first + BATCH)
                logits = peer.logits_of(torch, network, mixed, x[part])
                total += float(torch.nn.functional.cross_entropy(logits, labels[part], reduction="sum"))
                hits += int((logits.argmax(1) == labels[part]).sum())
            losses.append(total / count)
        return losses, hits

    path([0.0], BATCH)
    start = clock()
    losses, _ = path(np.linspace(0, 1, points).tolist(), count)
    return clock() - start, losses


def laid_out(torch, values: np.ndarray, layout: str):
    """Return weights laid out for PyTorch."""
    tensor = torch.tensor(values)
    if tensor.ndim < 4:
        return tensor
    return tensor.permute(3, 2, 0, 1).contiguous(memory_format=memory_format(layout))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--points", type=int, default=25)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.quick:
        options.images, options.points, options.rounds = 500, 5, 1
    if options.side:
        function, _, layout = options.side.partition(":")
        print(json.dumps(globals()[function](options.points, options.images, layout)))
        return
    size = ("--points", str(options.points), "--images", str(options.images))
    shortest, losses = {}, {}
    for _ in range(options.rounds):
        for side, (name, environment) in SIDES.items():
            environment = os.environ | environment | {"NUMBA_NUM_THREADS": str(options.threads)}
            command = [sys.executable, __file__, "--side", name, *size]
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
            seconds, losses[side] = json.loads(done.stdout)
            shortest[side] = min(seconds, shortest.get(side, seconds))
    peer = losses["PyTorch, channels_last"]
    difference = np.abs(np.subtract(losses["basiscli"], peer) / peer).max()
    size = f"{options.points} λ, {options.images:,} images, {options.threads} threads"
    lines = [f"| {size}; losses agree to {difference:.0e} | seconds | / basiscli |", "| --- | --- | --- |"]
    mine = shortest["basiscli"]
    lines += [f"| {side} | {seconds:.1f} | **{seconds / mine:.2f}** |" for side, seconds in shortest.items()]
    print("\n".join(lines))
    if options.write:
        page.write("interpolate", lines)


if __name__ == "__main__":
    main()
