"""Every kernel compared with the float64 reference, and its speed beside the best that this machine reaches.

S seeds, N samples, H, W positions, C units, P parameters, K classes.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from basiscli import kernels
from basiscli.device import placement
from basiscli.kernels import reference
from basiscli.rng import generator

EPSILON = 1e-5
# Tolerances: the largest difference from the reference over the largest value of the reference. They allow for sums of
# float32, for Winograd's transforms, and for factors rounded to TF32 and BF16.
TOLERANCE, WINOGRAD = 3e-5, 1e-4
ROUNDED = {"tf32": 2e-3, "bf16": 2e-2}
PRODUCTS = (
    "dense", "dense_input_gradient", "dense_weight_gradient",
    "convolution", "convolution_input_gradient", "convolution_weight_gradient",
)  # fmt: skip
# A kernel is timed over at least this many seconds, after a first call that compiles it.
SECONDS = 0.05
GIGA = 1e9


@dataclass(frozen=True)
class Size:
    """The sizes of the arrays in a check. `side` is H and W, `classes` is K."""

    seeds: int
    samples: int
    side: int
    units: int
    parameters: int
    classes: int = 10


SMALL = Size(2, 5, 6, 19, 1003, 7)
TIMED = {"cpu": Size(1, 64, 16, 32, 1 << 20), "cuda": Size(4, 128, 32, 64, 1 << 22)}
# The best speeds are measured by copying an array of COPIED bytes and multiplying square matrices of side MULTIPLIED.
COPIED = {"cpu": 64 << 20, "cuda": 512 << 20}
MULTIPLIED = {"cpu": 1024, "cuda": 8192}


@dataclass(frozen=True)
class Check:
    """A kernel, its arguments on the host, and its number of multiplications and additions (0 if they are few)."""

    name: str
    arguments: tuple
    operations: int = 0


def check_kernels(precision: str = placement.FLOAT32, timed: bool = True) -> Iterator[dict]:
    """Yield a record for each kernel of the current device (`placement.using`).

    error: the largest difference from the reference, relative to the largest value. ok: whether error is within
    tolerance. If `timed`, also milliseconds; gb_s, the bytes of all arguments and results divided by the time; of_copy,
    gb_s divided by that of copying an array; gflop_s; of_product, gflop_s divided by that of a large matrix product in
    the same precision.
    """
    place = "cuda" if placement.on_gpu() else "cpu"
    ceilings = (copied(COPIED[place]), multiplied(MULTIPLIED[place])) if timed else (None, None)
    if timed:
        yield {"kernel": "copy", "ok": True, "gb_s": ceilings[0]}
        yield {"kernel": "product", "ok": True, "gflop_s": ceilings[1]}
    larger = {check.name: check for check in checks(TIMED[place])} if timed else {}
    for check in checks(SMALL):
        yield compared(check, precision) | (_speed(larger[check.name], *ceilings) if timed else {})


def compared(check: Check, precision: str = placement.FLOAT32) -> dict:
    """Return the record of one kernel: its error against the reference, and whether the error is within tolerance."""
    error, tolerance = _error(check), _tolerance(check.name, precision)
    return {"kernel": check.name, "ok": bool(error <= tolerance), "error": error, "tolerance": tolerance}


def checks(size: Size) -> Iterator[Check]:
    """Yield a check for every kernel, with random arguments."""
    s, n, side, c, p = size.seeds, size.samples, size.side, size.units, size.parameters
    image = (s, n, side, side, c)
    x, dy, y = (_draw(name, *image) for name in ("x", "dy", "y"))
    scale, shift, mean = (_draw(name, s, c) for name in ("scale", "shift", "mean"))
    variance = mean**2 + np.float32(0.5)
    yield from _products(size, x, dy)
    statistics = (mean, variance, scale)
    yield Check("unit_sums", (dy,))
    yield Check("power_sums", (x, shift))
    yield Check("add_units", (x, shift))
    yield Check("batchnorm", (x, scale, shift, EPSILON))
    yield Check("batchnorm_gradient", (dy, x, *statistics, EPSILON))
    yield Check("batchnorm_relu", (x, scale, shift, EPSILON, y))
    yield Check("batchnorm_relu_gradient", (dy, x, *statistics, shift, EPSILON))
    yield Check("normalise", (x, *statistics, shift, EPSILON))
    yield Check("normalise_relu", (x, *statistics, shift, EPSILON, y))
    yield Check("layernorm", (x, scale, shift, EPSILON))
    yield Check("layernorm_gradient", (dy, x, scale, EPSILON))
    yield Check("add", (x, y))
    yield Check("dropout", (x, np.full((s, 2), 7, np.float32), 0.3))
    for name in ("relu", "gelu", "tanh"):
        yield Check(name, (x,))
        yield Check(f"{name}_gradient", (dy, x))
    yield from _pooling(x, dy)
    logits, labels = _draw("logits", s, n, size.classes), generator(0, "labels").integers(0, size.classes, (s, n))
    yield Check("cross_entropy", (logits, labels, 0.1))
    theta, gradient, first, second = (_draw(name, s, p) for name in ("theta", "gradient", "first", "second"))
    counts, factor = (p // 2, p), np.linspace(0.5, 1, s)
    yield Check("sgd", (theta, gradient, first, counts, 0.1, factor, 0.9, True, 0.01))
    yield Check("adamw", (theta, gradient, first, second**2, counts, 0.1, factor, 7, 0.9, 0.999, 1e-8, 0.01))
    yield Check("squared_norm", (gradient, p))
    yield from _small(size, mean, variance, scale, shift)
    rng = generator(0, "images")
    images, index = rng.integers(0, 256, (50, side, side, 3)).astype(np.uint8), rng.integers(0, 50, (s, n))
    moves = np.concatenate([rng.integers(-2, 3, (s, n, 2)), rng.integers(0, 2, (s, n, 3))], axis=2)
    channels = np.array([[100, 120, 140], [0.02, 0.01, 0.03]], np.float32)
    yield Check("gather", (images, index, moves, *channels, side // 2))


def _products(size: Size, x: np.ndarray, dy: np.ndarray) -> Iterator[Check]:
    s, n, side, c = size.seeds, size.samples, size.side, size.units
    wide = side * c
    rows, other = _draw("rows", s, n, wide), _draw("other", s, n, wide)
    w, b = _draw("w", s, wide, wide) / np.float32(math.sqrt(wide)), _draw("b", s, wide)
    dense = 2 * s * n * wide * wide
    yield Check("dense", (rows, w, b), dense)
    yield Check("dense_input_gradient", (other, w), dense)
    yield Check("dense_weight_gradient", (rows, other), dense)
    kernel = _draw("kernel", s, 3, 3, c, c) / np.float32(3 * math.sqrt(c))
    convolution = 2 * s * n * side * side * 9 * c * c
    yield Check("convolution", (x, kernel, 1, 1), convolution)
    yield Check("convolution_input_gradient", (dy, kernel, 1, 1, (side, side)), convolution)
    yield Check("convolution_weight_gradient", (x, dy, 1, 1, (3, 3)), convolution)


def _pooling(x: np.ndarray, dy: np.ndarray) -> Iterator[Check]:
    half = np.ascontiguousarray(dy[:, :, ::2, ::2])
    where = generator(0, "where").integers(0, 4, half.shape).astype(np.uint8)
    yield Check("max_pool", (x, 2, 2, 0))
    yield Check("max_pool_gradient", (half, where, x.shape, 2, 2, 0))
    yield Check("average_pool", (x, 2))
    yield Check("average_pool_gradient", (half, 2))
    yield Check("global_pool", (x,))
    yield Check("global_pool_gradient", (np.ascontiguousarray(dy[:, :, 0, 0]), x.shape[2:4]))
    yield Check("subsample", (x, 2, 2 * x.shape[4]))
    yield Check("subsample_gradient", (np.concatenate([half, half], axis=4), 2, x.shape))


def _small(size: Size, mean: np.ndarray, variance: np.ndarray, scale: np.ndarray, shift: np.ndarray) -> Iterator[Check]:
    """Yield checks of the kernels of a step that work on a few numbers per seed."""
    s, n = size.seeds, size.samples
    losses, totals = (abs(_draw(name, s)).astype(np.float64) for name in ("losses", "totals"))
    hits, alive = np.arange(s), np.arange(s) > 0
    yield Check("account", (losses, hits, n, alive, totals, hits.copy()))
    yield Check("clip", (np.linspace(0.5, 1, s), 4 * totals, 1.0))
    yield Check("follow", (mean, variance, shift, scale**2, 0.1, n / (n - 1)))
    yield Check("next_mask", (np.array([[7, k] for k in range(s)], np.float32), 2))
    yield Check("put", (mean, scale))
    yield Check("rows", (_draw("table", 11, size.units), generator(0, "index").integers(0, 11, (s, n))))


def _draw(name: str, *shape: int) -> np.ndarray:
    return generator(0, name).standard_normal(shape, np.float32)


def _error(check: Check) -> float:
    """Return the largest difference over the largest value, of all results and of arguments that the kernel changes."""
    on_device = [_moved(argument) for argument in check.arguments]
    exact = [a.astype(np.float64) if _floats(a) else a for a in check.arguments]
    got = getattr(_kernels(), check.name)(*on_device)
    expected = getattr(reference, check.name)(*exact)
    pairs = [*zip(_results(got), _results(expected), strict=True)]
    pairs += [(a, b) for a, b in zip(on_device, exact, strict=True) if isinstance(b, np.ndarray) and _floats(b)]
    return max(_difference(placement.to_host(a), b) for a, b in pairs)


def _difference(got: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(got - expected).max() / max(np.abs(expected).max(), 1)) if np.size(got) else 0.0


def _speed(check: Check, copied: float, multiplied: float) -> dict:
    on_device = [_moved(argument) for argument in check.arguments]
    kernel = getattr(_kernels(), check.name)
    moved = sum(a.nbytes for a in (*on_device, *_results(kernel(*on_device))) if hasattr(a, "nbytes"))
    seconds = _seconds(lambda: kernel(*on_device))
    bandwidth, rate = moved / seconds / GIGA, check.operations / seconds / GIGA
    return {
        "milliseconds": 1e3 * seconds,
        "gb_s": bandwidth,
        "of_copy": bandwidth / copied,
        "gflop_s": rate or None,
        "of_product": rate / multiplied or None,
    }


def copied(size: int) -> float:
    """Return the bytes, in 10⁹, that copying an array reads and writes in a second."""
    source, target = _random(size // 4), _random(size // 4)

    def copy():
        target[...] = source

    return 2 * size / _seconds(copy) / GIGA


def multiplied(side: int) -> float:
    """Return the operations, in 10⁹, that a product of square matrices does in a second."""
    x = _random(side * side).reshape(1, side, side)
    return 2 * side**3 / _seconds(lambda: kernels.of(x).dense_input_gradient(x, x)) / GIGA


def _random(count: int) -> np.ndarray:
    """Return random floats on the device. Zeros would not do: a card needs less power for them and computes faster."""
    return placement.to_device(np.resize(_draw("ceiling", min(count, 1 << 20)), count))


def _seconds(call: Callable[[], object]) -> float:
    """Return the mean seconds of a call, measured over many calls after a first one that compiles."""
    call()
    times = 1
    while True:
        placement.wait()
        start = time.perf_counter()
        for _ in range(times):
            call()
        placement.wait()
        seconds = time.perf_counter() - start
        if seconds > SECONDS:
            return seconds / times
        times *= 2


def _tolerance(name: str, precision: str) -> float:
    if name in PRODUCTS and precision in ROUNDED:
        return ROUNDED[precision]
    return WINOGRAD if name.startswith("convolution") else TOLERANCE


def _kernels():
    return kernels.of(placement.to_device(np.zeros(1, np.float32)))


def _moved(argument):
    return placement.to_device(argument.copy()) if isinstance(argument, np.ndarray) else argument


def _floats(argument: object) -> bool:
    return getattr(argument, "dtype", None) in (np.float32, np.float64)


def _results(result: object) -> tuple:
    return () if result is None else result if isinstance(result, tuple) else (result,)
