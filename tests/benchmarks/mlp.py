"""Time training steps of MLPs beside PyTorch and JAX, as their users would write them.

    python -m tests.benchmarks.mlp [--write]          # needs the peers: pip install -e '.[bench]'

A step is forward, backward and SGD with momentum 0.9, float32. Ours gathers and standardises random uint8 images; the
peers find theirs ready as float32. Every side is a process of its own with `--threads` threads; the sides take turns,
and a figure is the median of the rounds. PyTorch runs with malloc tuned. The last row is `basiscli train --seeds 5` on
the digits, evaluation, checkpoints, display and files included, less the same command with `--epochs 0`.

On a machine with other work, `--threads 1 --clock process_time` compares the processor time of one thread each; for the
command that counts its own and its children's.

Beside each figure stands the part of the bound: the floating-point operations of the step's products at the speed that
one product of this suite reaches, on all threads, measured in the same rounds.
"""

import argparse
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks import page

SEEDS = 5
# Environment that keeps glibc from giving memory back at every step: PyTorch's steps gain where arrays are large.
TUNED = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "10000000000", "MALLOC_TOP_PAD_": "268435456"}
LR, MOMENTUM = 0.05, 0.9
CLOCK = "BENCHMARK_CLOCK"


@dataclass(frozen=True)
class Case:
    """An MLP, its batch, the steps of an epoch, and the ratios to the best peer that were asked for, 5 seeds and 1."""

    name: str
    side: int
    hidden: tuple[int, ...]
    batch: int
    steps: int
    asked: tuple[float, float]

    @property
    def sizes(self) -> tuple[int, ...]:
        return self.side**2, *self.hidden, 10

    @property
    def operations(self) -> int:
        """Floating-point operations of the products of a step for one sample: no gradient of the images is needed."""
        maps = [a * b for a, b in itertools.pairwise(self.sizes)]
        return 2 * (3 * sum(maps) - maps[0])


CASES = {
    "digits": Case("digits, 64-64-64-64-10, batch 64", 8, (64,) * 3, 64, 200, (3.0, 2.4)),
    "narrow": Case("784-128-128-128-10, batch 128", 28, (128,) * 3, 128, 100, (1.7, 1.4)),
    "wide": Case("784-512-512-512-10, batch 128", 28, (512,) * 3, 128, 40, (1.4, 1.2)),
}


def rate(step, samples: int, seconds: float) -> float:
    """Return samples a second of a function that does a step of so many, after it has been warmed up."""
    clock = getattr(time, os.environ[CLOCK])
    for _ in range(3):
        step()
    start, steps = clock(), 0
    while clock() < start + seconds:
        step()
        steps += 1
    return samples * steps / (clock() - start)


def ours(case: Case, seeds: int, seconds: float) -> float:
    import numpy as np

    from basiscli.data import Dataset, Split
    from basiscli.nn import models
    from basiscli.training.recipe import Recipe
    from basiscli.training.run import Run

    rng, count, shape = np.random.default_rng(0), case.batch * case.steps, (case.side, case.side, 1)
    split = Split(rng.integers(0, 256, (count, *shape), np.uint8), rng.integers(0, 10, count))
    dataset = Dataset("random", split, Split(split.images[:1], split.labels[:1]), 10, "")
    recipe = Recipe(epochs=10**6, batch_size=case.batch, schedule="constant", lr=LR, momentum=MOMENTUM)
    run = Run.start(models.mlp(shape, 10, case.hidden), recipe, dataset, range(seeds))
    return rate(run.train_epoch, seeds * count, seconds)


def torch_alone(case: Case, seeds: int, seconds: float) -> float:
    """Networks one after the other, so the rate of one."""
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    layers: list[torch.nn.Module] = []
    for inputs, outputs in itertools.pairwise(case.sizes):
        layers += [torch.nn.Linear(inputs, outputs), torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers[:-1])
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=MOMENTUM, foreach=True)
    images, labels = torch.randn(case.batch, case.sizes[0]), torch.randint(0, 10, (case.batch,))

    def step() -> None:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()

    return rate(step, case.batch, seconds)


def torch_seeds(case: Case, seeds: int, seconds: float) -> float:
    """All networks in one graph, their layers as batched products."""
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    weights = [torch.randn(seeds, a, b) * (2 / a) ** 0.5 for a, b in itertools.pairwise(case.sizes)]
    biases = [torch.zeros(seeds, 1, b) for b in case.sizes[1:]]
    for parameter in weights + biases:
        parameter.requires_grad_()
    optimizer = torch.optim.SGD(weights + biases, lr=LR, momentum=MOMENTUM, foreach=True)
    images, labels = torch.randn(seeds, case.batch, case.sizes[0]), torch.randint(0, 10, (seeds * case.batch,))

    def step() -> None:
        optimizer.zero_grad()
        x = images
        for w, b in zip(weights, biases, strict=True):
            x = torch.baddbmm(b, x, w)
            x = torch.relu(x) if w is not weights[-1] else x
        (seeds * torch.nn.functional.cross_entropy(x.flatten(0, 1), labels)).backward()
        optimizer.step()

    return rate(step, seeds * case.batch, seconds)


def jax_seeds(case: Case, seeds: int, seconds: float) -> float:
    """jit of a step whose buffers are donated, under vmap over the seeds where there are several."""
    import jax
    import jax.numpy as jnp

    def loss(parameters, images, labels):
        x = images
        for w, b in parameters[:-1]:
            x = jax.nn.relu(x @ w + b)
        w, b = parameters[-1]
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(x @ w + b), labels[:, None], 1))

    def step(parameters, velocity, images, labels):
        gradient = jax.grad(loss)(parameters, images, labels)
        velocity = jax.tree.map(lambda v, g: MOMENTUM * v + g, velocity, gradient)
        return jax.tree.map(lambda p, v: p - LR * v, parameters, velocity), velocity

    keys = jax.random.split(jax.random.key(0), len(case.sizes))
    lead = (seeds,) if seeds > 1 else ()
    parameters = [
        (jax.random.normal(key, (*lead, a, b)) * (2 / a) ** 0.5, jnp.zeros((*lead, b)))
        for key, (a, b) in zip(keys, itertools.pairwise(case.sizes), strict=False)
    ]
    images = jax.random.normal(keys[-1], (*lead, case.batch, case.sizes[0]))
    labels = jax.random.randint(keys[-1], (*lead, case.batch), 0, 10)
    compiled = jax.jit(jax.vmap(step) if seeds > 1 else step, donate_argnums=(0, 1))
    state = [parameters, jax.tree.map(jnp.zeros_like, parameters)]

    def advance() -> None:
        state[:] = compiled(*state, images, labels)
        jax.block_until_ready(state)

    return rate(advance, seeds * case.batch, seconds)


def product(case: Case, seeds: int, seconds: float) -> float:
    """Floating-point operations a second of a product of 5 seeds, 128 x 512 by 512 x 512."""
    import numpy as np

    from basiscli.kernels import cpu

    x, w, b = (np.ones(shape, np.float32) for shape in ((SEEDS, 128, 512), (SEEDS, 512, 512), (SEEDS, 512)))
    return rate(lambda: cpu.dense(x, w, b), 2 * SEEDS * 128 * 512 * 512, seconds)


def command(case: Case, seeds: int, seconds: float) -> float:
    """Samples a second of `basiscli train` on the digits, less the same command without training."""
    from basiscli import data

    def run(epochs: int) -> float:
        with tempfile.TemporaryDirectory() as folder:
            words = (
                "train",
                "--seeds",
                seeds,
                "--epochs",
                epochs,
                "--augment",
                "all-shifts",
                "--batch-size",
                case.batch,
            )
            start, used = time.perf_counter(), children()
            subprocess.run(
                [sys.executable, "-m", "basiscli", *map(str, words), "--out", folder],
                check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            return children() - used if os.environ[CLOCK] == "process_time" else time.perf_counter() - start

    def children() -> float:
        times = os.times()
        return times.children_user + times.children_system

    run(1)  # compiles
    epochs = max(2, round(20 * seconds))
    return seeds * epochs * 9 * len(data.load("digits").train.labels) / (run(epochs) - run(0))


PEERS = (torch_alone, torch_seeds, jax_seeds)
SIDES = {side.__name__: side for side in (ours, *PEERS, product, command)}


def measure(side: str, case: str, seeds: int, options) -> float:
    """Return what a side says, in a process of its own."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), str(options.threads))
    environment = os.environ | threads | (TUNED if side.startswith("torch") else {})
    environment |= {"PYTHONPATH": str(Path(__file__).parents[2]), CLOCK: options.clock}
    words = [sys.executable, "-m", "tests.benchmarks.mlp", "--side", side, "--case", case, "--seeds", str(seeds)]
    done = subprocess.run(
        [*words, "--seconds", str(options.seconds), "--threads", str(options.threads)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return float(done.stdout)


def rows(options) -> list[list[str]]:
    """Measure all sides in turns and return the rows of the table."""
    tasks = [(side.__name__, name, seeds) for name in options.cases for seeds in (SEEDS, 1) for side in (ours, *PEERS)]
    if "digits" in options.cases:
        tasks.append(("command", "digits", SEEDS))
    tasks.append(("product", "wide", SEEDS))
    found: dict[tuple, list[float]] = {task: [] for task in tasks}
    for _ in range(options.rounds):
        for task in tasks:
            found[task].append(measure(*task, options))
    rates = {task: statistics.median(values) for task, values in found.items()}
    peak = rates["product", "wide", SEEDS]
    table = [
        row(CASES[name], name, seeds, rates, ("ours", asked), peak)
        for name in options.cases
        for seeds, asked in zip((SEEDS, 1), CASES[name].asked, strict=True)
    ]
    if "digits" in options.cases:
        table.append(row(CASES["digits"], "digits", SEEDS, rates, ("command", 2.0), peak))
    return table


def row(case: Case, name: str, seeds: int, rates: dict, own: tuple[str, float], peak: float) -> list[str]:
    """Return a row: the case, the peers' rates and ours in thousands, ratio and target, and the part of the bound."""
    (side, asked), peers = own, [rates[peer.__name__, name, seeds] for peer in PEERS]
    mine = rates[side, name, seeds]
    title = case.name if side == "ours" else "`basiscli train --seeds 5` on digits, less start-up"
    numbers = [f"{value / 1e3:,.1f}" for value in (*peers, mine)]
    ratio = mine / max(peers)
    verdict = "" if ratio >= asked else ", missed"
    return [f"{title}, {seeds} seeds" if seeds > 1 else f"{title}, 1 seed", *numbers, f"**{ratio:.2f}**",
            f"{asked}{verdict}", f"{mine * case.operations / peak:.0%}"]  # fmt: skip


HEAD = ["thousand samples/s", "PyTorch, one at a time", "PyTorch, baddbmm", "JAX, jit (vmap)", "basiscli",
        "ours / best peer", "asked", "of the bound"]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=2, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=["perf_counter", "process_time"], default="perf_counter")
    parser.add_argument("--cases", type=lambda text: text.split(","), default=list(CASES))
    parser.add_argument("--write", action="store_true", help="into docs/benchmarks.md")
    parser.add_argument("--side", choices=list(SIDES), help=argparse.SUPPRESS)
    parser.add_argument("--case", choices=list(CASES), help=argparse.SUPPRESS)
    parser.add_argument("--seeds", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        # Some libraries take every processor that they see.
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])
        print(SIDES[options.side](CASES[options.case], options.seeds, options.seconds))
        return
    lines = ["| " + " | ".join(cells) + " |" for cells in (HEAD, ["---"] * len(HEAD), *rows(options))]
    print("\n".join(lines))
    if options.write:
        page.write("mlp: steps", lines)


if __name__ == "__main__":
    main()
