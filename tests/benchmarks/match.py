"""Time matching by weights, and count how often it recovers planted permutations.

    python tests/benchmarks/match.py --width 4 [--write]
    python tests/benchmarks/match.py --recover --width 1 --noise 0,3,4,5
    python tests/benchmarks/match.py --recover --network runs/digits-resnet/seed0.h5
    python tests/benchmarks/match.py --quick

Networks are ResNet-20 for CIFAR with random weights, or those of a file. Seconds are of the clock (best of the rounds)
and of the processor, as the machine may be shared; --write puts them into docs/benchmarks.md.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from basiscli.analysis import assignment
from basiscli.device.threads import blas
from basiscli.files import networks
from basiscli.nn import models, weights
from basiscli.nn.unit_groups import permute_units, unit_groups
from tests.benchmarks import page

DEPTH, RESTARTS = 20, 16


def network(width: float, depth: int = DEPTH):
    """Return a residual network for CIFAR."""
    return models.build({"model": "resnet", "input_shape": [32, 32, 3], "classes": 10, "depth": depth, "width": width})


def trained(net, arrays: dict) -> dict:
    return {path: arrays[path] for path in net.trained}


def seconds(width: float, restarts: int, rounds: int) -> list[str]:
    """Return a table of how long it takes to set up the objective of two networks and to search it."""
    net = network(width)
    groups, (a, b) = unit_groups(net), (trained(net, weights.initial(net, seed)) for seed in (0, 1))
    best, used = [float("inf")] * 2, 0.0
    for _ in range(rounds):
        start, processor = time.perf_counter(), time.process_time()
        f = assignment.objective(groups.groups, groups.axes, a, b)
        made = time.perf_counter()
        found = assignment.search(
            f, assignment.starts(groups.groups, restarts, 0, assignment.identities(groups.groups))
        )
        best = [min(best[0], made - start), min(best[1], time.perf_counter() - made)]
        used = time.process_time() - processor
    cosine = f.cosine(found.best.permutations)
    return [
        "| width | restarts | setting up, s | search, s | both, s | processor, s | cosine | reached by |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        f"| {width:g} | {restarts} | {best[0]:.2f} | {best[1]:.2f} | **{sum(best):.2f}** | {used:.2f} | {cosine:.4f} "
        f"| {found.agreed} |",
    ]


def recover(net, arrays_of: Callable[[int], dict], noise: float, tries: int) -> None:
    """Print in how many tries a permutation was recovered, by number of restarts and by how one descent starts.

    arrays_of(seed): what the network of a try holds. "as high": the last number of restarts ended at the planted
    permutation's objective or above it; where this is 100, what was not recovered is no longer the best answer.
    """
    hits, groups = Counter(), unit_groups(net)
    for seed in range(tries):
        rng = np.random.default_rng(seed)
        hidden = {group: rng.permutation(units) for group, units in groups.groups.items()}
        a = arrays_of(seed)
        moved = permute_units(
            groups, {path: w[None] for path, w in a.items()}, {group: p[None] for group, p in hidden.items()}
        )
        b = {
            path: (w[0] + noise * w.std() * rng.standard_normal(w[0].shape)).astype("f")
            for path, w in trained(net, moved).items()
        }
        f = assignment.objective(groups.groups, groups.axes, trained(net, a), b)
        starts = assignment.starts(groups.groups, RESTARTS, seed, assignment.identities(groups.groups))
        with blas().limit(limits=1):
            done = [assignment.descend(f, start.permutations, start.order) for start in starts]
        answer = {group: np.argsort(p) for group, p in hidden.items()}
        right = [all(np.array_equal(one.permutations[group], p) for group, p in answer.items()) for one in done]
        hits["as high"] += max(one.value for one in done) >= f.value(answer) * (1 - assignment.SMALLEST_GAIN)
        for name, hit in zip(("identity", "unplaced", "random"), right[:3], strict=True):
            hits[name] += hit
        for restarts in (8, RESTARTS):
            hits[f"{restarts} restarts"] += right[int(np.argmax([one.value for one in done[:restarts]]))]
    print(f"noise {noise:g}: of {tries} " + ", ".join(f"{name} {count}" for name, count in hits.items()), flush=True)


def planted(path: str | None, width: float, depth: int = DEPTH) -> tuple:
    """Return a network and what gives its arrays in each try: those of a file, or random ones."""
    if path is None:
        net = network(width, depth)
        return net, partial(weights.initial, net)
    loaded = networks.load(path)
    return loaded.network, lambda seed: {path: values[0] for path, values in loaded.arrays.items()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--width", type=float, default=4)
    parser.add_argument("--network", help="recover in this one, whose weights were trained")
    parser.add_argument("--restarts", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--recover", action="store_true", help="count recovered permutations")
    parser.add_argument("--noise", default="0,3,4,5")
    parser.add_argument("--tries", type=int, default=100)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--quick", action="store_true", help="small networks, few tries")
    options = parser.parse_args()
    if options.recover:
        net, arrays_of = planted(options.network, options.width)
        for noise in map(float, options.noise.split(",")):
            recover(net, arrays_of, noise, options.tries)
    elif options.quick:
        print("\n".join(seconds(1, 4, 1)))
        recover(*planted(None, 0.5, 14), 5, 10)
    else:
        lines = seconds(options.width, options.restarts, options.rounds)
        print("\n".join(lines))
        if options.write:
            page.write("match", lines)


if __name__ == "__main__":
    main()
