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
from subprocess import DEVNULL

import h5py
import numpy as np

from basiscli.analysis import pairs, passes
from basiscli.files import activations


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
        report(paths, options.repeat)


def write(path: str, samples: int, units: int, seed: int) -> None:
    """Write random ReLU features of the same inputs."""
    inputs = np.random.default_rng(99).standard_normal((samples, 64), dtype=np.float32)
    weights = np.random.default_rng(seed).standard_normal((64, units), dtype=np.float32)
    with h5py.File(path, "w") as file:
        file["hidden1"] = np.maximum(inputs @ weights, 0)


def report(paths: list[str], repeat: int) -> None:
    a, b = (read(path) for path in paths)
    command = [sys.executable, "-m", "basiscli", "correlate", *paths]
    seconds = interleaved(
        {
            "S_AB, float32 product in memory": lambda: a.T @ b,
            "S_AA": lambda: a.T @ a,
            "S_BB": lambda: b.T @ b,
            "numpy.corrcoef of both": lambda: np.corrcoef(a, b, rowvar=False),
            "correlate, library, from files to scores": lambda: correlate(paths, full=False),
            "the same with full S_AA and S_BB": lambda: correlate(paths, full=True),
            "basiscli correlate, the whole process": lambda: subprocess.run(command, check=True, stdout=DEVNULL),
        },
        repeat,
    )
    bound = sum(list(seconds.values())[:3])
    corrcoef = seconds["numpy.corrcoef of both"]
    print(f"{a.shape[0]:,} x {a.shape[1]:,}, float32, two files")
    print(f"{'':44}{'seconds':>8}{'/ bound':>9}{'corrcoef /':>12}")
    for name, value in {"bound: the three products": bound, **seconds}.items():
        print(f"{name:44}{value:8.2f}{value / bound:9.2f}{corrcoef / value:12.1f}")
    expected = np.corrcoef(a.astype(np.float64), b, rowvar=False)[: a.shape[1], a.shape[1] :]
    error = np.abs(correlate(paths, full=False) - expected).max()
    print(f"largest error of a correlation against float64: {error:.1e}")
    print(f"peak memory of basiscli correlate: {peak_megabytes(command):.0f} MB")


def interleaved(functions: dict[str, Callable], repeat: int) -> dict[str, float]:
    """Return the best seconds of each function, all of them timed in turn so that a slow spell hits all alike."""
    best = dict.fromkeys(functions, float("inf"))
    for _ in range(repeat):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            best[name] = min(best[name], time.perf_counter() - start)
    return best


def correlate(paths: list[str], full: bool) -> np.ndarray:
    """Return the correlations of the only pair and layer, everything worked out that the command prints."""
    for moments in passes.layer_moments(activations.open_all(paths), passes.Reading(0, full)):
        for pair in pairs.compare_pairs(moments):
            return pair.scores.r
    raise AssertionError("no pair")


def peak_megabytes(command: list[str]) -> float:
    """Return the peak memory of a command."""
    # A process counts the memory of the one that started it until it has its own: start it from a small one.
    small = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL); "
    small += "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    done = subprocess.run([sys.executable, "-c", small, *command], check=True, stdout=subprocess.PIPE)
    return int(done.stdout) / 1024


def read(path: str) -> np.ndarray:
    with h5py.File(path) as file:
        return file["hidden1"][:]


if __name__ == "__main__":
    main()
