"""Time rotated and shuffled draws, and all pairs of ten networks beside numpy and scipy pair by pair.

    python tests/benchmarks/nulls.py [--units 512] [--draws 100] [--networks 10] [--layers 6] [--samples 10000]

The reference is timed on three pairs of one layer and multiplied: it is the same work for each.
"""

import argparse
import tempfile
import time
from itertools import combinations
from pathlib import Path

import h5py
import numpy as np
from scipy.optimize import linear_sum_assignment

from basiscli.analysis import nulls, pairs, passes
from basiscli.analysis.accumulator import Accumulator
from basiscli.files import activations

REFERENCE_PAIRS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--units", type=int, default=512)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--networks", type=int, default=10)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--samples", type=int, default=10_000)
    options = parser.parse_args()
    time_draws(options.units, options.draws)
    with tempfile.TemporaryDirectory() as folder:
        time_pairs(options, folder)


def time_draws(units: int, draws: int) -> None:
    halves = [moments(features(seed, 5000, units), features(seed + 9, 5000, units)) for seed in (0, 1)]
    with nulls.workers(units) as spread:
        for name, draw in (
            ("rotated, processes started", lambda: nulls.rotated(halves, draws, 0, spread=spread)),
            ("rotated again", lambda: nulls.rotated(halves, draws, 0, spread=spread)),
            ("shuffled", lambda: nulls.shuffled(halves, 1, draws, 0, spread=spread)),
        ):
            print(f"{draws} draws, {units} units, {name}: {seconds(draw):.2f} s")


def time_pairs(options: argparse.Namespace, folder: str) -> None:
    paths = [str(Path(folder, f"{network}.h5")) for network in range(options.networks)]
    for network, path in enumerate(paths):
        with h5py.File(path, "w") as file:
            for layer in range(options.layers):
                file[f"hidden{layer}"] = features(100 * network + layer, options.samples, options.units)
    couples = len(list(combinations(paths, 2)))
    ours = seconds(lambda: all_pairs(paths))
    reference = seconds(lambda: pair_by_pair(paths[: REFERENCE_PAIRS + 1])) / REFERENCE_PAIRS
    reference *= couples * options.layers
    print(
        f"{couples} pairs, {options.layers} layers of {options.units} units, {options.samples:,} samples: {ours:.1f} s"
    )
    print(
        f"numpy.corrcoef and three assignments, pair by pair: {reference:.1f} s, {reference / ours:.1f} times as long"
    )


def features(seed: int, samples: int, units: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.maximum(
        rng.standard_normal((samples, 64), dtype=np.float32) @ rng.standard_normal((64, units), dtype=np.float32), 0
    )


def moments(a: np.ndarray, b: np.ndarray):
    accumulator = Accumulator(2, full=True)
    accumulator.add([a, b])
    return accumulator.moments()


def all_pairs(paths: list[str]) -> None:
    for found in passes.layer_moments(activations.open_all(paths), passes.Reading(0)):
        for _ in pairs.compare_pairs(found):
            pass


def pair_by_pair(paths: list[str]) -> None:
    """Score the first layer of the first file with each other: whole, and held out on two halves, as `compare` does."""
    with h5py.File(paths[0]) as file:
        a = file["hidden0"][:]
    units, half = a.shape[1], len(a) // 2
    for path in paths[1:]:
        with h5py.File(path) as file:
            b = file["hidden0"][:]
        for rows in (slice(None), slice(half), slice(half, None)):
            r = np.corrcoef(a[rows], b[rows], rowvar=False)[:units, units:]
            linear_sum_assignment(r, maximize=True)


def seconds(function) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
