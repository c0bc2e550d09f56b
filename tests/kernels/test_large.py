"""Kernels of more elements, blocks and seeds than 31 and 16 bits count, at their real sizes.

Large arrays of the stand-in take memory only where they are written, and of a launch only the first and last blocks are
run: what these write shows whether indices are right.
"""

import sys

import numpy as np
import pytest

from basiscli.kernels import reference
from basiscli.rng import generator
from tests.emulation import emulation, fake
from tests.emulation.device import MEMORY

SEEDS = 70_000  # more than CUDA has blocks along its second and third axis
BEYOND = 2**31 + 512  # the last of them are the second round of the first two blocks


@pytest.fixture
def gpu():
    with fake.installed() as device, emulation.taking(ends=2):
        device.memory, device.fresh = 16 * MEMORY, 0
        from basiscli.kernels import gpu

        yield gpu


def zeros(*shape, dtype=np.float32):
    """Return an array of the device whose pages are not written."""
    return sys.modules["cupy"].empty(shape, dtype)


def draw(name, *shape):
    return generator(0, name).standard_normal(shape, np.float32)


def moved(array):
    return sys.modules["cupy"].asarray(array)


def last(array, count=1):
    """Return the last elements along the first axis, on the host."""
    return array[len(array) - count :].get()


def close(got, expected, tolerance=1e-4):
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance)


def test_maps(gpu):
    x = zeros(2, BEYOND // 2)
    x[1:, -300:] = values = moved(draw("x", 1, 300))
    close(gpu.relu(x)[1:, -300:].get(), np.maximum(values.get(), 0))


def test_dropout_of_many_elements_of_a_seed(gpu):
    x = zeros(1, BEYOND)
    x[:, -300:] = 1
    y = gpu.dropout(x, moved(np.array([[5, 1]], np.float32)), 0.5)[0, -300:].get()
    kept = [reference_kept(5, 1, BEYOND - 300 + k, 0.5) for k in range(300)]
    close(y, np.where(kept, 2.0, 0.0))


def reference_kept(high: int, low: int, index: int, rate: float) -> bool:
    """Return whether dropout keeps an element, worked out in Python's integers."""

    def splitmix(z):
        z = (z + 0x9E3779B97F4A7C15) % 2**64
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        return z ^ (z >> 31)

    return splitmix((splitmix((high << 32) + low) + index) % 2**64) >> 40 >= round(rate * 2**24)


def test_pooling(gpu):
    x = zeros(1, 2**12 + 8, 2**6, 2**6, 2**7)
    x[0, -1, -2:, -2:] = values = moved(draw("x", 2, 2, 2**7))
    values = values.get()
    y, where = gpu.max_pool(x, 2, 2, 0)
    close(y[0, -1, -1, -1].get(), values.max(axis=(0, 1)))
    close(gpu.average_pool(x, 2)[0, -1, -1, -1].get(), values.mean(axis=(0, 1)))
    where[0, -1, -1, -1] = 3
    y[0, -1, -1, -1] = 7
    close(gpu.max_pool_gradient(y, where, x.shape, 2, 2, 0)[0, -1, -1, -1].get(), 7)
    close(gpu.average_pool_gradient(y, 2)[0, -1, -1, -1].get(), 1.75)
    close(gpu.global_pool(x)[0, -1].get(), values.sum(axis=(0, 1)) / 2**12)
    picked = gpu.subsample(x, 1, 2**7)
    close(picked[0, -1, -1, -1].get(), values[-1, -1])
    close(gpu.subsample_gradient(x, 1, x.shape)[0, -1, -1, -1].get(), values[-1, -1])


def test_rows_of_a_seed(gpu):
    rows = BEYOND // 32
    x, (scale, shift) = zeros(1, rows, 32), (moved(draw(name, 1, 32)) for name in ("scale", "shift"))
    x[0, -3:] = values = moved(draw("x", 3, 32))
    mean, variance = moved(np.zeros((1, 32), np.float32)), moved(np.ones((1, 32), np.float32))
    expected = values.get() * scale.get() + shift.get()
    close(gpu.normalise(x, mean, variance, scale, shift, 0.0)[0, -3:].get(), expected)
    close(gpu.layernorm(x, scale, shift, 1e-5)[0, -3:].get(), reference.layernorm(
        values.get()[None], scale.get(), shift.get(), 1e-5)[0], 1e-3)  # fmt: skip
    gpu.add_units(x, shift)
    close(x[0, -3:].get(), values.get() + shift.get())


def test_sums_of_many_rows(gpu):
    """The last block adds up the last chunk of rows, in which all but the last row are 0."""
    x = zeros(1, 2**21 + 5, 1024)
    x[0, -1] = values = moved(draw("x", 1024))
    partials, _ = gpu._partials(x)
    gpu._walk("sum_deviations", x, x, partials, 0, walked=gpu.SUMMED_CHUNKS)
    close(partials[0, 0, -1, -32:].get(), values.get()[-32:])


@pytest.mark.parametrize("precision", ["float32", "tf32"])
def test_convolutions(gpu, precision):
    """A seed of more than 2³¹ inputs and outputs; the last image against the reference."""
    from basiscli.kernels.device import multiplying

    shape = (1, 2**15 + 1, 64, 64, 16)
    x, dy, w = zeros(*shape), zeros(*shape), moved(draw("w", 1, 3, 3, 16, 16) / 12)
    x[0, -1] = image = moved(draw("x", *shape[2:]))
    dy[0, -1] = image
    with multiplying(precision):
        y, dx = gpu.convolution(x, w, 1, 1), gpu.convolution_input_gradient(dy, w, 1, 1, (64, 64))
    one = image.get()[None, None].astype(np.float64)
    tolerance = 1e-5 if precision == "float32" else 1e-2
    exact = reference.convolution(one, w.get().astype(np.float64), 1, 1)
    close(y[0, -1, -2:].get(), exact[0, 0, -2:], tolerance)
    exact = reference.convolution_input_gradient(one, w.get().astype(np.float64), 1, 1, (64, 64))
    close(dx[0, -1, -2:].get(), exact[0, 0, -2:], tolerance)


def test_weight_gradient_of_many_positions(gpu, monkeypatch):
    """In more parts than CUDA has blocks along its third axis; the last is run, which has all that is not 0."""
    monkeypatch.setattr(gpu, "BLOCKS", 10**6)
    shape = (1, 2**15 + 1, 64, 64, 16)
    x, dy = zeros(*shape), zeros(*shape)
    x[0, -1, -4:] = image = moved(draw("x", 4, *shape[3:]))
    dy[0, -1, -2:] = image[-2:]
    dw = gpu.convolution_weight_gradient(x, dy, 1, 1, (3, 3)).get().ravel()
    one = np.zeros(shape[2:])
    one[-4:] = image.get()
    other = one.copy()
    other[:-2] = 0
    exact = reference.convolution_weight_gradient(one[None, None], other[None, None], 1, 1, (3, 3)).ravel()
    for part in (slice(512), slice(-512, None)):  # two blocks at either end
        close(dw[part], exact[part], 1e-3)


def test_more_seeds_than_blocks_along_an_axis(gpu):
    theta, gradient, velocity = (moved(np.zeros((SEEDS, 3), np.float32)) for _ in range(3))
    gradient[-1] = 1
    factor = moved(np.ones(SEEDS))
    gpu.sgd(theta, gradient, velocity, (0, 3), 0.5, factor, 0.9, False, 0.0)
    close(last(theta), -0.5)
    gpu.adamw(theta, gradient, velocity, moved(np.ones((SEEDS, 3), np.float32)), (0, 3), 0.0, factor, 1, 0.9, 0.999,
              1e-8, 0.0)  # fmt: skip
    close(last(velocity), 1)
    close(last(gpu.squared_norm(gradient, 3)), 3)
    x, w = moved(draw("x", 2, 1, 2, 2, 2)), zeros(SEEDS, 1, 1, 2, 2)
    w[-1] = some = moved(draw("w", 1, 1, 2, 2))
    close(last(gpu.convolution(x[:1], w, 1, 0))[0], np.einsum("nhwi,io->nhwo", x.get()[0], some.get()[0, 0]))
    shift = moved(np.zeros((SEEDS, 2), np.float32))
    shift[-1] = 4
    close(last(gpu.add_units(moved(np.zeros((SEEDS, 3, 2), np.float32)), shift)), 4)


def test_more_parts_of_all_seeds_than_blocks_along_an_axis(gpu):
    """As the stem of a ResNet with 512 seeds."""
    seeds, size = 600, (128, 32, 32)
    x, dy = zeros(1, *size, 1), zeros(seeds, *size, 1)
    x[:, -1], dy[-1, -1] = 1, 1
    dw = gpu.convolution_weight_gradient(x, dy, 1, 0, (1, 1))
    close(last(dw).ravel(), 1024)


def test_more_units_than_threads(gpu):
    """The ends of sums have one thread a unit and seed: here more than the blocks that are launched have."""
    seeds, units = 512, 2049
    x, ones = zeros(seeds, 2, units), moved(np.ones((seeds, units), np.float32))
    x[-1, :, -1] = moved(np.array([2, 4], np.float32))
    assert seeds * units > 4096 * 256
    assert gpu.unit_sums(x)[-1, -1].get() == 6
    _, mean, variance = gpu.batchnorm(x, ones, ones, 1e-5)
    assert mean[-1, -1].get() == 3 and variance[-1, -1].get() == 1
    _, dscale, dshift = gpu.batchnorm_gradient(x, x, mean, variance, ones, 1e-5)
    assert dshift[-1, -1].get() == 6
    close(dscale[-1, -1].get(), 2)


def test_more_than_a_launch_can_have_is_refused(gpu):
    from basiscli.kernels import device

    with pytest.raises(ValueError, match="more than a launch can have"):
        device.launch("pointwise", "relu", (2**16, 2**16), 256)
    with pytest.raises(ValueError, match="too many for a kernel"):
        device._typed(2**31)
    with pytest.raises(ValueError, match="too many for a convolution"):
        gpu._shape((1, 2**17, 2**7, 2**7, 1), (1, 2**17, 1, 1, 1), (1, 1), 1, 0)
