"""Odd shapes for kernels, arrays of such shapes, and the comparison with the reference."""

import numpy as np

from basiscli.kernels import cpu, reference
from basiscli.rng import generator

# S seeds, N samples, I input and O output units: ones, primes, a whole tile and one more, a sum in several pieces.
DENSE_SHAPES = [(1, 1, 1, 1), (2, 3, 5, 7), (3, 17, 33, 65), (1, 128, 16, 10), (2, 31, 2100, 19), (1, 64, 49, 48)]
UNIT_SHAPES = [(1, 1, 1), (2, 7, 3), (3, 129, 65), (2, 5, 3, 2, 70), (2, 50, 4, 8, 4), (3, 9, 2)]
# S seeds, N samples, H, W, I input and O output units, KH, KW, stride, padding.
CONVOLUTIONS = [
    (1, 1, 3, 3, 1, 1, 3, 3, 1, 1),
    (2, 3, 9, 7, 5, 6, 3, 3, 1, 1),
    (2, 2, 8, 8, 16, 33, 3, 3, 2, 1),
    (3, 2, 7, 7, 17, 4, 3, 3, 2, 1),
    (2, 3, 6, 5, 19, 16, 1, 1, 1, 0),
    (2, 3, 7, 5, 3, 16, 1, 1, 2, 0),
    (1, 2, 11, 9, 3, 5, 5, 2, 3, 2),
    (2, 2, 13, 11, 3, 9, 7, 7, 2, 3),
    (1, 5, 32, 32, 3, 16, 3, 3, 1, 1),
    (2, 1, 4, 4, 64, 48, 3, 3, 1, 1),
]
# Size, stride and padding of windows that overlap, reach over the border, or leave a rest.
OVERLAPPING = [(3, 2, 1), (2, 1, 1), (3, 3, 0), (2, 3, 0)]


def draw(*shape, stream="kernels"):
    """Return normal values (float32) of a shape; another stream gives other values."""
    return generator(0, stream, *shape).standard_normal(shape).astype(np.float32)


def assert_same(name, *arguments, tolerance=2e-6):
    """Compare a kernel's results with the reference's in float64, relative to the largest value."""
    exact = [a.astype(np.float64) if getattr(a, "dtype", None) == np.float32 else a for a in arguments]
    got, expected = getattr(cpu, name)(*arguments), getattr(reference, name)(*exact)
    for a, b in zip(got, expected, strict=True) if isinstance(got, tuple) else [(got, expected)]:
        scale = max(1.0, np.abs(b).max())
        np.testing.assert_allclose(a / scale, b / scale, rtol=0, atol=tolerance, err_msg=name)
