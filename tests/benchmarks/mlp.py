"""Time training steps of an MLP 784-512-512-512-10, batch 128, beside PyTorch on the same threads.

    python tests/benchmarks/mlp.py [--seconds 3] [--rounds 5]          # needs PyTorch: pip install -e '.[bench]'

A step is forward, backward and SGD with momentum, on random images, gathered and standardised (ours) or lying ready
as float32 (PyTorch's). Each side runs in a process of its own; they take turns, and every figure is the best of the
rounds. Several seeds: ours trains five at once, PyTorch one after the other on two threads, or one process a core.
"""

import argparse
import itertools
import os
import subprocess
import sys
import time

SIZES = (784, 512, 512, 512, 10)
BATCH = 128
SEEDS = 5


def ours(seconds: float, seeds: int) -> float:
    """Return samples a second, summed over the seeds, of `seeds` networks trained at once."""
    import numpy as np

    from basiscli.data import Dataset, Split
    from basiscli.nn import models
    from basiscli.training.recipe import Recipe
    from basiscli.training.run import Run

    rng = np.random.default_rng(0)
    split = Split(rng.integers(0, 256, (BATCH * 40, 28, 28, 1), np.uint8), rng.integers(0, 10, BATCH * 40))
    dataset = Dataset("random", split, Split(split.images[:1], split.labels[:1]), 10, "")
    network = models.mlp((28, 28, 1), 10, SIZES[1:-1])
    run = Run.start(network, Recipe(epochs=10**6, batch_size=BATCH, schedule="constant"), dataset, range(seeds))
    run.train_epoch()
    start, steps = time.perf_counter(), 0
    while time.perf_counter() < start + seconds:
        run.train_epoch()
        steps += 40
    return seeds * BATCH * steps / (time.perf_counter() - start)


def pytorch(seconds: float, threads: int) -> float:
    """Return samples a second of one network."""
    import torch

    torch.set_num_threads(threads)
    layers: list[torch.nn.Module] = []
    for inputs, outputs in itertools.pairwise(SIZES):
        layers += [torch.nn.Linear(inputs, outputs), torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers[:-1])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, foreach=True)
    images, labels, loss = torch.randn(BATCH, SIZES[0]), torch.randint(0, 10, (BATCH,)), torch.nn.CrossEntropyLoss()

    def step() -> None:
        optimizer.zero_grad()
        loss(model(images), labels).backward()
        optimizer.step()

    for _ in range(20):
        step()
    start, steps = time.perf_counter(), 0
    while time.perf_counter() < start + seconds:
        step()
        steps += 1
    return BATCH * steps / (time.perf_counter() - start)


# Environment that keeps glibc from giving memory back at every step: PyTorch's steps gain where arrays are large.
TUNED = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "10000000000", "MALLOC_TOP_PAD_": "268435456"}
SIDES = {
    "PyTorch, one network, two threads": ("pytorch", 2, 1, {}),
    "PyTorch, the same, malloc tuned": ("pytorch", 2, 1, TUNED),
    "PyTorch, two processes, one thread each, sum": ("pytorch", 1, 2, TUNED),
    "basiscli, one seed": ("ours", 1, 1, {}),
    f"basiscli, {SEEDS} seeds at once, sum": ("ours", SEEDS, 1, {}),
}


def measure(side: str, number: int, processes: int, environment: dict, seconds: float) -> float:
    """Return the rates of some processes that run one side at the same time, summed."""
    command = [sys.executable, __file__, "--side", side, "--number", str(number), "--seconds", str(seconds)]
    started = [
        subprocess.Popen(command, env=os.environ | environment, stdout=subprocess.PIPE, text=True)
        for _ in range(processes)
    ]
    return sum(float(process.communicate()[0]) for process in started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--side", choices=["ours", "pytorch"], help=argparse.SUPPRESS)
    parser.add_argument("--number", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print({"ours": ours, "pytorch": pytorch}[options.side](options.seconds, options.number))
        return
    best = dict.fromkeys(SIDES, 0.0)
    for _ in range(options.rounds):
        for name, side in SIDES.items():
            best[name] = max(best[name], measure(*side, options.seconds))
    one = max(list(best.values())[:2])
    peer = max(list(best.values())[:3])
    print(f"{'':48}{'samples/s':>10}{'ratio':>8}")
    for name, rate in best.items():
        base = peer if str(SEEDS) in name else one
        print(f"{name:48}{rate:10.0f}{rate / base:8.2f}")


if __name__ == "__main__":
    main()
