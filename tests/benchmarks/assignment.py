"""Time linear assignments beside scipy's, on correlations as the suite meets them.

    python -m tests.benchmarks.assignment [--units 64,128,256,512,1024] [--rounds 7] [--write]

Processor seconds, the best of the rounds, both in turns; --write puts the table into docs/benchmarks.md.
"""

import argparse
import time
from collections.abc import Callable, Iterator

import numpy as np
from scipy.optimize import linear_sum_assignment

from basiscli.kernels.assignment import assign
from basiscli.rng import generator
from tests.benchmarks import page

SAMPLES, SOURCES = 3000, 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--units", type=lambda text: [int(part) for part in text.split(",")],
                        default=[64, 128, 256, 512, 1024])  # fmt: skip
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    lines = table(options.units, options.rounds)
    print("\n".join(lines))
    if options.write:
        page.write("assignment", lines)


def table(widths: list[int], rounds: int) -> list[str]:
    """Return the table: milliseconds of both, and the ratio, by width and kind of correlations."""
    assign(np.eye(200))  # compiled, or loaded
    lines = [
        "| units | correlations with | scipy, ms | basiscli, ms | scipy / basiscli |",
        "| --- | --- | --- | --- | --- |",
    ]
    for units in widths:
        for name, r in correlations(units):
            theirs, ours = best(rounds, lambda r=r: linear_sum_assignment(r, maximize=True), lambda r=r: assign(r))
            lines.append(f"| {units:,} | {name} | {1e3 * theirs:.2f} | {1e3 * ours:.2f} | **{theirs / ours:.2f}** |")
    return lines


def correlations(units: int) -> Iterator[tuple[str, np.ndarray]]:
    """Yield correlations (U, U) of ReLU units of a common space with three other layers."""
    rng = generator(0, "assignment", units)
    noise = 0.3 * rng.standard_normal((SAMPLES, units))
    x = np.maximum(rng.standard_normal((SAMPLES, SOURCES)) @ rng.standard_normal((SOURCES, units)) + noise, 0)
    turned = x @ np.linalg.qr(rng.standard_normal((units, units)))[0]
    dead = np.maximum(turned, 0) * (np.arange(units) % 7 > 0)
    for name, y in (
        ("rotated axes", turned),
        ("other units, a seventh of them dead", dead),
        ("the same units in another order", x[:, rng.permutation(units)]),
    ):
        with np.errstate(divide="ignore", invalid="ignore"):
            yield name, np.nan_to_num(np.corrcoef(x.T, y.T)[:units, units:])


def best(rounds: int, *functions: Callable[[], object]) -> list[float]:
    """Return the least processor time of each function; they run in turns."""
    times = [[] for _ in functions]
    for _ in range(rounds):
        for of_function, function in zip(times, functions, strict=True):
            began = time.process_time()
            function()
            of_function.append(time.process_time() - began)
    return list(map(min, times))


if __name__ == "__main__":
    main()
