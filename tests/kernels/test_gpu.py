"""Every CUDA kernel, run on the host by the emulation, gives what the float64 reference gives, on odd shapes.

tests/emulation has the emulation and the device that stands for cupy's; on a machine with a card, `basiscli selftest`
compares the same kernels there.
"""

import inspect
import sys

import numpy as np
import pytest

from basiscli.kernels import cpu, of, reference
from basiscli.rng import generator
from tests.emulation import emulation, fake
from tests.helpers.kernels import CONVOLUTIONS, DENSE_SHAPES, OVERLAPPING, UNIT_SHAPES, draw

# S, N, H, W, I, O, KH, KW, stride, padding: whole chunks of sixteen units, several tiles, parts of a sum, taps that no
# position sees, an image smaller than its kernel.
MORE_CONVOLUTIONS = [
    (2, 2, 9, 8, 16, 20, 3, 3, 1, 1),
    (1, 3, 10, 7, 32, 70, 3, 3, 2, 1),
    (1, 1, 2, 2, 5, 3, 3, 3, 1, 1),
    (2, 20, 10, 6, 3, 4, 3, 3, 1, 1),
    (1, 2, 7, 9, 4, 6, 3, 2, 3, 0),
]
# How far results may lie from the reference's, relative to the largest; formats of 11 and 8 bits round both factors.
ROUNDING = {"float32": 2e-6, "tf32": 1e-3, "bf16": 8e-3}


@pytest.fixture(scope="module")
def device():
    """The stand-in; every kernel is run in three orders of its blocks and threads, which must give the same bits."""
    with fake.installed() as there, emulation.taking((emulation.ASCENDING, emulation.DESCENDING, emulation.SHUFFLED)):
        yield there


@pytest.fixture
def gpu(device):
    return of(sys.modules["cupy"].zeros(1, np.float32))


def move(value):
    return sys.modules["cupy"].asarray(value) if isinstance(value, np.ndarray) else value


def back(value):
    return value.get() if hasattr(value, "get") else value


def same(name, *arguments, tolerance=2e-6):
    """Compare a kernel's results with the reference's in float64, relative to the largest value."""
    exact = [a.astype(np.float64) if getattr(a, "dtype", None) == np.float32 else a for a in arguments]
    gpu = sys.modules["basiscli.kernels.gpu"]
    got, expected = getattr(gpu, name)(*map(move, arguments)), getattr(reference, name)(*exact)
    for a, b in zip(got, expected, strict=True) if isinstance(got, tuple) else [(got, expected)]:
        a, scale = back(a), max(1.0, np.abs(b).max())
        assert a.shape == b.shape, name
        np.testing.assert_allclose(a / scale, b / scale, rtol=0, atol=tolerance, err_msg=name)


def test_the_kernels_of_an_array_on_a_device(gpu):
    assert gpu.__name__ == "basiscli.kernels.gpu"


def test_names_and_signatures_are_those_of_the_cpu(gpu):
    assert gpu.__all__ == cpu.__all__
    for name in gpu.__all__:
        assert inspect.signature(getattr(gpu, name)) == inspect.signature(getattr(cpu, name)), name


@pytest.mark.parametrize("shape", DENSE_SHAPES)
def test_dense(gpu, shape):
    seeds, samples, inputs, outputs = shape
    x, w, b = draw(seeds, samples, inputs), draw(seeds, inputs, outputs, stream="w"), draw(seeds, outputs)
    dy = draw(seeds, samples, outputs, stream="dy")
    same("dense", x, w, b, tolerance=1e-5)
    same("dense", x[:1], w, b, tolerance=1e-5)
    same("dense_input_gradient", dy, w, tolerance=1e-5)
    same("dense_weight_gradient", x, dy, tolerance=1e-5)
    same("dense_weight_gradient", x[:1], dy, tolerance=1e-5)


def test_gradients_into_views_of_flat_parameters(gpu):
    x, dy = draw(2, 9, 4), draw(2, 9, 5)
    flat = move(np.zeros((2, 80), np.float32))
    gpu.dense_weight_gradient(move(x), move(dy), flat[:, 16:36].reshape(2, 4, 5))
    gpu.unit_sums(move(dy), flat[:, 48:53])
    image, seen = draw(2, 3, 5, 5, 2), draw(2, 3, 5, 5, 3, stream="dy")
    kernel = move(np.zeros((2, 80), np.float32))
    gpu.convolution_weight_gradient(move(image), move(seen), 1, 1, (3, 3), kernel[:, 16:70].reshape(2, 3, 3, 2, 3))
    found, of_kernel = flat.get(), kernel.get()
    np.testing.assert_allclose(found[:, 16:36].reshape(2, 4, 5), reference.dense_weight_gradient(x, dy), atol=1e-5)
    np.testing.assert_allclose(found[:, 48:53], dy.sum(1), atol=1e-5)
    expected = reference.convolution_weight_gradient(image, seen, 1, 1, (3, 3))
    np.testing.assert_allclose(of_kernel[:, 16:70].reshape(expected.shape), expected, atol=1e-4)
    assert not found[:, :16].any() and not found[:, 36:48].any() and not found[:, 53:].any()
    assert not of_kernel[:, :16].any() and not of_kernel[:, 70:].any()


@pytest.mark.parametrize("precision", ROUNDING)
@pytest.mark.parametrize("shape", [*CONVOLUTIONS, *MORE_CONVOLUTIONS])
def test_convolution(gpu, shape, precision):
    from basiscli.kernels.device import multiplying

    seeds, samples, height, width, inputs, outputs, *kernel, stride, padding = shape
    x, w = draw(seeds, samples, height, width, inputs), draw(seeds, *kernel, inputs, outputs, stream="w")
    dy = draw(*reference.convolution(x, w, stride, padding).shape, stream="dy")
    tolerance = ROUNDING[precision]
    with multiplying(precision):
        for some in (x, x[:1]):
            same("convolution", some, w, stride, padding, tolerance=tolerance)
            same("convolution_weight_gradient", some, dy, stride, padding, tuple(kernel), tolerance=tolerance)
        same("convolution_input_gradient", dy, w, stride, padding, (height, width), tolerance=tolerance)


@pytest.mark.parametrize("precision, bits", [("tf32", 13), ("bf16", 16)])
def test_precisions_round_both_factors_and_nothing_else(gpu, precision, bits):
    """The product of factors that the format holds exactly is the product in float32."""
    from basiscli.kernels.device import multiplying

    def short(x):
        return (np.ascontiguousarray(x).view(np.uint32) >> bits << bits).view(np.float32)

    x, w = short(draw(1, 2, 6, 6, 16)), short(draw(1, 3, 3, 16, 8, stream="w"))
    with multiplying(precision):
        same("convolution", x, w, 1, 1)
        exact = reference.convolution(x.astype(np.float64), w.astype(np.float64), 1, 1)
        rough = gpu.convolution(move(draw(1, 2, 6, 6, 16)), move(draw(1, 3, 3, 16, 8, stream="w")), 1, 1).get()
    assert np.abs(rough - exact).max() > 1e-4, "nothing was rounded"


@pytest.mark.parametrize("shape", [*UNIT_SHAPES, (2, 3, 33), (1, 600, 2), (2, 9, 5, 5, 16)])
def test_normalisation(gpu, shape):
    seeds, units = shape[0], shape[-1]
    x, dy = 3 * draw(*shape) + 5, draw(*shape, stream="dy")
    scale, shift = draw(seeds, units), draw(seeds, units, stream="shift")
    same("unit_sums", dy)
    same("power_sums", dy, shift)
    same("batchnorm", x, scale, shift, 1e-3, tolerance=1e-5)
    same("layernorm", x, scale, shift, 1e-3, tolerance=1e-5)
    same("normalise", x, shift, scale**2, scale, shift, 1e-3, tolerance=1e-5)
    _, mean, variance = reference.batchnorm(x.astype(np.float64), scale, shift, 1e-3)
    mean, variance = mean.astype(np.float32), variance.astype(np.float32)
    same("batchnorm_gradient", dy, x, mean, variance, scale, 1e-3, tolerance=3e-5)
    same("batchnorm_relu", x, scale, shift, 1e-3, tolerance=1e-5)
    same("batchnorm_relu", x, scale, shift, 1e-3, dy, tolerance=1e-5)
    same("normalise_relu", x, shift, scale**2, scale, shift, 1e-3, dy, tolerance=1e-5)
    same("batchnorm_relu_gradient", dy, x, mean, variance, scale, shift, 1e-3, tolerance=3e-5)
    same("layernorm_gradient", dy, x, scale, 1e-3, tolerance=3e-5)
    same("add_units", x, shift)


def test_scale_and_shift_of_flat_parameters(gpu):
    x, flat = draw(3, 10, 7), draw(3, 40)
    y, _, _ = gpu.batchnorm(move(x), move(flat)[:, :7], move(flat)[:, 16:23], 1e-3)
    expected, _, _ = reference.batchnorm(x, flat[:, :7], flat[:, 16:23], 1e-3)
    np.testing.assert_allclose(y.get(), expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 1, 2, 2, 1), (2, 3, 6, 9, 5)])
def test_pooling(gpu, shape):
    size = 2 if shape[2] == 2 else 3
    x = draw(*shape)
    same("max_pool", x, size, size, 0)
    same("average_pool", x, size)
    same("global_pool", x)
    y, where = reference.max_pool(x, size, size, 0)
    dy = draw(*y.shape, stream="dy")
    same("max_pool_gradient", dy, where, shape, size, size, 0)
    same("average_pool_gradient", dy, size)
    same("global_pool_gradient", draw(*shape[:2], shape[4]), shape[2:4])
    picked = reference.subsample(x, 2, shape[4] + 3)
    same("subsample", x, 2, shape[4] + 3)
    same("subsample_gradient", draw(*picked.shape, stream="dy"), 2, shape)


@pytest.mark.parametrize("window", OVERLAPPING)
@pytest.mark.parametrize("shape", [(1, 1, 3, 3, 1), (2, 3, 9, 7, 5)])
def test_max_pool_of_windows_that_overlap_or_leave_a_rest(gpu, shape, window):
    x = draw(*shape)
    x[:, :, 1] = x[:, :, 0]  # the first of equals counts
    y, where = reference.max_pool(x, *window)
    same("max_pool", x, *window)
    same("max_pool_gradient", draw(*y.shape, stream="dy"), where, shape, *window)


def test_max_pool_takes_the_first_of_equals_and_a_nan(gpu):
    x = np.zeros((1, 1, 2, 4, 1), np.float32)
    x[0, 0, 1, 2], x[0, 0, 0, 3] = np.nan, np.nan
    y, where = gpu.max_pool(move(x), 2, 2, 0)
    np.testing.assert_array_equal(y.get().ravel(), [0, np.nan])
    np.testing.assert_array_equal(where.get().ravel(), [0, 1])


@pytest.mark.parametrize("name", ["relu", "gelu", "tanh"])
def test_nonlinearities(gpu, name):
    x = np.concatenate([draw(2, 700), np.linspace(-30, 30, 1400, dtype=np.float32).reshape(2, 700)], axis=1)
    same(name, x)
    same(f"{name}_gradient", draw(*x.shape, stream="dy"), x)
    assert np.isnan(getattr(gpu, name)(move(np.full((1, 3), np.nan, np.float32))).get()).all()


def test_add(gpu):
    same("add", draw(2, 3, 7), draw(2, 3, 7, stream="y"))


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.9])
def test_dropout(gpu, rate):
    same("dropout", draw(2, 30, 11), np.array([[5, 1], [16777215, 3]], np.float32), rate)


@pytest.mark.parametrize("shape", [(1, 1, 2), (3, 17, 10), (2, 300, 5)])
@pytest.mark.parametrize("shared", [False, True])
def test_cross_entropy(gpu, shape, shared):
    labels = generator(1, "labels").integers(0, shape[2], (1 if shared else shape[0], shape[1]))
    same("cross_entropy", 20 * draw(*shape), labels)
    same("cross_entropy", draw(*shape), labels, 0.1)


def test_a_diverged_seed_has_no_finite_loss_and_leaves_the_others_alone(gpu):
    logits = draw(2, 4, 3)
    logits[1, 2, 1] = np.nan
    loss, _, _ = gpu.cross_entropy(move(logits), move(np.zeros((1, 4), np.int64)))
    assert np.isfinite(loss.get()).tolist() == [True, False]


@pytest.mark.parametrize("momentum, nesterov", [(0.0, False), (0.9, False), (0.9, True)])
@pytest.mark.parametrize("on_device", [False, True])
def test_sgd(gpu, momentum, nesterov, on_device):
    counts, factor, decay = (300, 700), np.array([1.0, 0.0, 0.25]), 0.01
    rate = move(np.array([0.1])) if on_device else 0.1
    theta, gradient, velocity = (draw(3, 703, stream=name) for name in ("theta", "gradient", "velocity"))
    exact, there = (
        [a.astype(np.float64) for a in (theta, gradient, velocity)],
        list(map(move, (theta, gradient, velocity))),
    )
    gpu.sgd(*there, counts, rate, move(factor), momentum, nesterov, decay)
    reference.sgd(*exact, counts, 0.1, factor, momentum, nesterov, decay)
    np.testing.assert_allclose(there[0].get(), exact[0], atol=1e-6)
    np.testing.assert_allclose(there[2].get(), exact[2], atol=1e-6)
    assert (there[0].get()[:, 700:] == theta[:, 700:]).all(), "frozen parameters moved"
    assert (there[0].get()[1] == theta[1]).all(), "a stopped seed moved"


@pytest.mark.parametrize("on_device", [False, True])
def test_adamw(gpu, on_device):
    counts, factor = (100, 300), np.array([1.0, 0.0])
    theta, gradient = draw(2, 305, stream="theta"), draw(2, 305, stream="gradient")
    first, second = draw(2, 305, stream="first"), draw(2, 305, stream="second") ** 2
    exact = [a.astype(np.float64) for a in (theta, gradient, first, second)]
    there = list(map(move, (theta, gradient, first, second)))
    rate, step = (move(np.array([0.01])), move(np.array([7.0]))) if on_device else (0.01, 7)
    gpu.adamw(*there, counts, rate, move(factor), step, 0.9, 0.999, 1e-8, 0.1)
    reference.adamw(*exact, counts, 0.01, factor, 7, 0.9, 0.999, 1e-8, 0.1)
    for k in (0, 2, 3):
        np.testing.assert_allclose(there[k].get(), exact[k], atol=1e-6)


@pytest.mark.parametrize("trained", [1, 900, 40000])
def test_squared_norm(gpu, trained):
    same("squared_norm", draw(3, max(1000, trained)), trained)


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
@pytest.mark.parametrize("hole", [0, 2, 3])
def test_gather(gpu, kind, hole):
    rng = generator(2, "images")
    images, index = rng.integers(0, 200, (6, 5, 4, 3)).astype(kind), rng.integers(0, 6, (2, 40))
    mean, inverse = np.array([1.0, 2, 3], np.float32), np.array([0.5, 0.25, 0.1], np.float32)
    moves = rng.integers(-5, 6, (2, 40, 5))
    moves[..., 2], moves[..., 3:] = rng.integers(0, 2, (2, 40)), rng.integers(0, 4, (2, 40, 2))
    same("gather", images, index, moves[..., :2], mean, inverse, tolerance=1e-6)
    same("gather", images, index, moves, mean, inverse, hole, tolerance=1e-6)


def test_no_kernel_is_left_that_no_test_ran(gpu, device):
    """Stands after the tests of all kernels; alone it has nothing to look at."""
    from basiscli.kernels.device import FAMILIES, source

    there = {name for family in FAMILIES for name in emulation.names(source(family))}
    if "relu" in device.log:
        assert there <= set(device.log)


def test_what_is_no_float32_is_refused(gpu):
    for name in ("relu", "global_pool"):
        with pytest.raises(ValueError, match="float32"):
            getattr(gpu, name)(move(np.zeros((1, 2, 2, 2, 2))))


def test_the_emulation_finds_a_barrier_that_some_threads_never_reach():
    source = "KERNEL wrong(float* x) { if (threadIdx.x < 5) __syncthreads(); x[threadIdx.x] = 1; }\n"
    head = '#define KERNEL extern "C" __global__ void\n'
    with pytest.raises(AssertionError, match="never reach"):
        emulation.run(head + source, 0, "wrong", (1, 1, 1), 32, [np.zeros(32, np.float32)])


TURN = (
    'extern "C" __global__ void turn(float* x) {{ __shared__ float s[64]; s[threadIdx.x] = x[threadIdx.x];'
    " {barrier} x[threadIdx.x] = s[63 - threadIdx.x]; }}\n"
)


@pytest.mark.parametrize("barrier", ["__syncthreads();", ""])
def test_the_emulation_shows_a_missing_barrier(barrier):
    x = np.arange(64, dtype=np.float32)
    with emulation.taking((emulation.SHUFFLED,)):
        emulation.run(TURN.format(barrier=barrier), 0, "turn", (1, 1, 1), 64, [x])
    assert np.array_equal(x, np.arange(64)[::-1]) == bool(barrier)


# What comes out of it depends on which block or thread is last, or first: a race that one order hides.
RACES = {
    "blocks": "x[0] = (float)blockIdx.x;",
    "threads": "if (blockIdx.x == 0) x[0] = (float)threadIdx.x;",
    "a block reads another's": "x[blockIdx.x] = blockIdx.x ? x[blockIdx.x - 1] + 1 : 1;",
}


@pytest.mark.parametrize("body", RACES.values(), ids=RACES)
def test_what_depends_on_the_order_of_blocks_or_threads_is_found(body):
    source, x = f'extern "C" __global__ void race(float* x) {{ {body} }}\n', np.zeros(8, np.float32)
    with (
        emulation.taking((emulation.ASCENDING, emulation.DESCENDING)),
        pytest.raises(AssertionError, match="the order"),
    ):
        emulation.run(source, 0, "race", (8, 1, 1), 32, [x])


def test_shared_memory_holds_nothing_when_a_block_begins():
    source = (
        'extern "C" __global__ void stale(float* x) { __shared__ float s[1]; x[blockIdx.x] = s[0]; __syncthreads();'
        " s[0] = 1; }\n"
    )
    x = np.zeros(3, np.float32)
    emulation.run(source, 0, "stale", (3, 1, 1), 32, [x])
    assert np.isnan(x).all()


def test_the_device_finds_what_is_written_beside_an_array(device):
    cupy = sys.modules["cupy"]
    head = '#define KERNEL extern "C" __global__ void\n'
    kernel = cupy.RawModule(code=head + "KERNEL beyond(float* x) { x[8] = 1; }\n", options=("-DPRECISION=0",))
    x = cupy.empty(8, np.float32)
    with pytest.raises(AssertionError, match="beside"):
        kernel.get_function("beyond")((1, 1, 1), (1, 1, 1), (x,))
    x._block.memory[x._block.end :] = fake.GUARD
