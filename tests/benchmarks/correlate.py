"""Time `correlate` on two files of 50,000 x 1,024 float32, beside numpy and beside the products that it cannot avoid.

    python tests/benchmarks/correlate.py [--samples 50000] [--units 1024] [--repeat 3]

Bound: the best times of S_AB, S_AA and S_BB as float32 products of whole arrays in memory, added up. Every figure is
the best of --repeat; peak memory is that of the whole process of the command.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from basiscli import sources
from basiscli.analysis import pairs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=50_000)
    parser.add_argument("--units", type=int, default=1024)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder, name)) for name in ("a.h5", "b.h5")]
        for seed, path in enumerate(paths):
            write(path, options.samples, options.units, seed)
        report(paths, options.repeat, folder)


def write(path: str, samples: int, units: int, seed: int) -> None:
    """Write random ReLU features of the same inputs."""
    inputs = np.random.default_rng(99).standard_normal((samples, 64), dtype=np.float32)
    weights = np.random.default_rng(seed).standard_normal((64, units), dtype=np.float32)
    with h5py.File(path, "w") as file:
        file["hidden1"] = np.maximum(inputs @ weights, 0)


def report(paths: list[str], repeat: int, folder: str) -> None:
    whole, peak = whole_command(paths, repeat, folder)
    library = best(lambda: correlate(paths, full=False), repeat)
    full = best(lambda: correlate(paths, full=True), repeat)
    a, b = (read(path) for path in paths)
    products = [best(lambda x=x, y=y: x.T @ y, repeat) for x, y in ((a, b), (a, a), (b, b))]
    bound = sum(products)
    corrcoef = best(lambda: np.corrcoef(a, b, rowvar=False), 1)
    expected = np.corrcoef(a.astype(np.float64), b, rowvar=False)[: a.shape[1], a.shape[1] :]
    error = np.abs(correlate(paths, full=False) - expected).max()
    print(f"{a.shape[0]:,} x {a.shape[1]:,}, float32, two files")
    print(f"{'':44}{'seconds':>8}{'/ bound':>9}{'corrcoef /':>12}")
    for name, seconds in (
        ("bound: S_AB + S_AA + S_BB, sgemm in memory", bound),
        ("S_AB alone", products[0]),
        ("numpy.corrcoef of both", corrcoef),
        ("correlate, library, from files to scores", library),
        ("the same with full S_AA and S_BB", full),
        ("basiscli correlate, the whole process", whole),
    ):
        print(f"{name:44}{seconds:8.2f}{seconds / bound:9.2f}{corrcoef / seconds:12.1f}")
    print(f"largest error of a correlation against float64: {error:.1e}")
    print(f"peak memory of basiscli correlate: {peak:.0f} MB")


def correlate(paths: list[str], full: bool) -> np.ndarray:
    """Return the correlations of the only pair and layer, everything worked out that the command prints."""
    for moments in pairs.layer_moments(sources.open_all(paths), seed=0, full=full):
        for pair in pairs.compare_pairs(moments):
            return pair.scores.r
    raise AssertionError("no pair")


def whole_command(paths: list[str], repeat: int, folder: str) -> tuple[float, float]:
    """Return seconds and peak MB of the command as a process of its own."""
    command = [sys.executable, "-m", "basiscli", "correlate", *paths]
    seconds = best(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=folder), repeat)
    # A process counts the memory of the one that started it until it has its own: start it from a small one.
    small = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL); "
    small += "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    peak = subprocess.run([sys.executable, "-c", small, *command], check=True, capture_output=True, cwd=folder).stdout
    return seconds, int(peak) / 1024


def read(path: str) -> np.ndarray:
    with h5py.File(path) as file:
        return file["hidden1"][:]


def best(function: Callable, repeat: int) -> float:
    seconds = []
    for _ in range(repeat):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


if __name__ == "__main__":
    main()
