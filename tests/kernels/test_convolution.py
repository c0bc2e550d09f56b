"""Convolutions: every path on shapes that do not fit, the same bits for any threads and seeds, and on a lesser CPU."""

import os
import subprocess
import sys

import numba
import numpy as np
import pytest

from basiscli.kernels import cpu, reference
from basiscli.kernels.cpu import direct, winograd
from basiscli.kernels.cpu.micro import LANES
from tests.helpers.kernels import assert_same, draw

# S seeds, N samples, H, W, I, O, kernel, stride, padding: what Winograd serves, tiles that hang over, one chunk and
# several, wide layers cut into blocks; then strides, 1x1, even kernels, narrow and odd channels, and those of which
# several positions are taken as one.
SERVED = [
    (1, 1, 4, 4, LANES, LANES, 3, 1, 1),
    (2, 3, 7, 9, 2 * LANES, 3 * LANES, 3, 1, 1),
    (1, 2, 5, 6, LANES, 5 * LANES, 3, 1, 0),
    (3, 1, 3, 3, LANES, LANES, 3, 1, 2),
    (1, 40, 8, 8, 48, 80, 3, 1, 1),
    (1, 2, 6, 5, 144, 96, 3, 1, 1),
]
OTHERS = [
    (2, 3, 9, 7, 16, 24, 3, 2, 1),
    (1, 5, 8, 8, 16, 33, 1, 2, 0),
    (2, 2, 6, 6, 65, 16, 1, 1, 0),
    (1, 2, 8, 8, 3, 16, 3, 1, 1),
    (2, 1, 11, 10, 1, 5, 5, 3, 2),
    (1, 2, 7, 7, 5, 3, 3, 1, 1),
    (1, 1, 6, 6, 8, 8, 2, 2, 0),
    (1, 70, 8, 8, 4, 17, 3, 1, 1),
    (1, 3, 2, 2, 32, 32, 3, 1, 1),
    (1, 1, 3, 3, 2, 2, 3, 4, 0),
]
FOLDED = [
    (2, 3, 5, 8, LANES // 4, LANES // 4, 3, 1, 1),
    (1, 2, 4, 6, 1, LANES // 2, 3, 1, 0),
    (2, 20, 7, 7, 3, LANES // 3, 3, 1, 2),
    (2, 2, 9, 16, LANES // 2, 1, 5, 2, 2),
    (1, 4, 8, 8, LANES - 1, LANES // 4, 4, 3, 1),
    (1, 2, 6, 7, 2, 2, 2, 1, 1),
]


def arrays(shape):
    """Return x, w, dy, (KH, KW), stride and padding of a case."""
    seeds, samples, height, width, inputs, outputs, kernel, stride, padding = shape
    x = draw(seeds, samples, height, width, inputs)
    w = draw(seeds, kernel, kernel, inputs, outputs, stream="w")
    size = [(n + 2 * padding - kernel) // stride + 1 for n in (height, width)]
    return x, w, draw(seeds, samples, *size, outputs, stream="dy"), (kernel, kernel), stride, padding


def all_three(x, w, dy, kernel, stride, padding):
    return (
        cpu.convolution(x, w, stride, padding),
        cpu.convolution_input_gradient(dy, w, stride, padding, x.shape[2:4]),
        cpu.convolution_weight_gradient(x, dy, stride, padding, kernel),
    )


@pytest.mark.parametrize("shape", SERVED + OTHERS + FOLDED)
def test_against_reference(shape):
    x, w, dy, kernel, stride, padding = arrays(shape)
    assert_same("convolution", x, w, stride, padding, tolerance=1e-5)
    assert_same("convolution", x[:1], w, stride, padding, tolerance=1e-5)
    assert_same("convolution_input_gradient", dy, w, stride, padding, x.shape[2:4], tolerance=1e-5)
    assert_same("convolution_weight_gradient", x, dy, stride, padding, kernel, tolerance=1e-5)
    assert_same("convolution_weight_gradient", x[:1], dy, stride, padding, kernel, tolerance=1e-5)


def test_which_shapes_winograd_serves():
    assert all(winograd.serves(arrays(shape)[1].shape[1:], shape[7], shape[8]) for shape in SERVED)
    assert not winograd.serves((3, 3, LANES, LANES), 2, 1)
    assert not winograd.serves((3, 3, LANES, LANES - 1), 1, 1)
    assert not winograd.serves((5, 5, LANES, LANES), 1, 1)


@pytest.mark.parametrize("shape", FOLDED)
def test_several_positions_are_taken_as_one_where_they_fill_a_vector(shape):
    _, w, dy, _, stride, _ = arrays(shape)
    fold = direct._fold(w.shape, stride, dy.shape[3])
    assert fold > 1 and fold * w.shape[4] <= LANES and dy.shape[3] % fold == 0


@pytest.mark.parametrize("shape", [SERVED[4], OTHERS[0], OTHERS[7], FOLDED[2]])
def test_threads_do_not_change_a_bit(shape):
    case = arrays(shape)
    several = all_three(*case)
    threads = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        alone = all_three(*case)
    finally:
        numba.set_num_threads(threads)
    for a, b in zip(several, alone, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("shape", [SERVED[1], OTHERS[0], OTHERS[2], OTHERS[4]])
def test_other_seeds_do_not_change_a_bit(shape):
    x, w, dy, *geometry = arrays(shape)
    together = all_three(x, w, dy, *geometry)
    for s in range(len(w)):
        alone = all_three(x[s : s + 1], w[s : s + 1], dy[s : s + 1], *geometry)
        for a, b in zip(together, alone, strict=True):
            np.testing.assert_array_equal(a[s : s + 1], b)


@pytest.mark.parametrize("module, shape", [(winograd, SERVED[1]), (direct, OTHERS[0])])
def test_nothing_is_written_beyond_the_result(module, shape):
    x, w, dy, _, stride, padding = arrays(shape)
    for like, fill in ((dy, "convolution"), (x, "convolution_input_gradient"), (w, "convolution_weight_gradient")):
        flat = np.full(like.size + 128, 7, np.float32)
        result = flat[64:-64].reshape(like.shape)
        operands = {"convolution": (x, w), "convolution_input_gradient": (dy, w)}.get(fill, (x, dy))
        getattr(module, fill)(*operands, *([stride] if module is direct else []), padding, result)
        assert (flat[:64] == 7).all() and (flat[-64:] == 7).all(), fill


def test_nan_is_not_lost():
    x, w, _, _, stride, padding = arrays(SERVED[1])
    x[0, 0, 3, 3, 0] = np.nan
    y = cpu.convolution(x, w, stride, padding)
    assert np.isnan(y[0, 0, 2:5, 2:5]).all() and np.isfinite(y[1]).all()


def test_views_of_other_strides_are_read_right():
    x, w, _, _, stride, padding = arrays(SERVED[1])
    turned = np.ascontiguousarray(x.swapaxes(2, 3)).swapaxes(2, 3)
    np.testing.assert_array_equal(cpu.convolution(turned, w, stride, padding), cpu.convolution(x, w, stride, padding))


def test_input_gradient_is_the_adjoint():
    x, w, dy, _, stride, padding = arrays(OTHERS[0])
    y, dx = reference.convolution(x, w, stride, padding), cpu.convolution_input_gradient(dy, w, stride, padding, (9, 7))
    np.testing.assert_allclose(np.vdot(y, dy), np.vdot(x, dx), rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("features", ["", "+sse4.2", "+avx,+sse4.2"])
def test_right_on_a_lesser_cpu(features, tmp_path):
    """The tile is chosen from what numba compiles for, and the results stay right."""
    lanes = 8 if "avx" in features else 4
    script = f"""
from tests.kernels import test_convolution as t
assert t.LANES == {lanes}
for shape in (t.SERVED[1], t.OTHERS[0], t.OTHERS[3], t.FOLDED[0]):
    t.test_against_reference(shape)
t.assert_same("batchnorm", t.draw(2, 9, 5), t.draw(2, 5), t.draw(2, 5), 1e-3, tolerance=1e-5)
"""
    environment = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": features, "NUMBA_CACHE_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", script], env=os.environ | environment, check=True)
