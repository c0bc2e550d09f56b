"""A step that cannot be captured, or that memory runs out in, is done all the same or refused cleanly."""

import sys
from contextlib import suppress

import numpy as np
import pytest

from basiscli.device import placement
from tests.emulation import fake
from tests.emulation.device import CAPTURE_UNSUPPORTED, OUT_OF_MEMORY, CUDARuntimeError
from tests.helpers.device import NETWORKS, RECIPE, run_of


@pytest.fixture
def device():
    """A fake GPU of its own for each test: some break it."""
    with fake.installed() as there:
        yield there


@pytest.fixture
def captured(device):
    from basiscli.device.captured import Captured

    return Captured()


def array(*shape):
    return sys.modules["cupy"].asarray(np.zeros(shape, np.float32))


def test_products_are_captured(device, caplog):
    """cupy's own call of cuBLAS is refused in a capture; ours is not, in any precision."""
    cupy = sys.modules["cupy"]
    with pytest.raises(NotImplementedError, match="cuBLAS API during stream capture"), cupy.cuda.Stream() as stream:
        stream.begin_capture()
        sys.modules["cupy_backends.cuda.libs.cublas"].gemmStridedBatchedEx()
    stream.end_capture()
    for precision in ("float32", "tf32", "bf16"):
        with placement.using("cuda", precision):
            run = run_of(NETWORKS["mlp"](), RECIPE)
            before = device.graph_launches
            run.train_epoch()
            assert device.graph_launches > before
    assert not caplog.messages


def test_cublas_refuses_a_capture_without_its_own_memory(device):
    from basiscli.kernels import cublas

    cupy, (a, b) = sys.modules["cupy"], (array(1, 4, 4), array(1, 4, 4))
    sizes, operands = (4, 4, 4), [(x.data.ptr, 4, 0) for x in (a, b, a)]
    cublas.multiply("float32", (False, False), sizes, *operands, 1)
    handle = cublas._handle()
    for name, wrong in (("cublasSetWorkspace_v2", "status 7"), ("cublasSetStream_v2", None)):
        with cupy.cuda.Stream() as stream:
            stream.begin_capture()
            handle._library.cublasSetStream_v2(handle._handle, stream.ptr)
            if wrong is None:
                cublas.multiply("float32", (False, False), sizes, *operands, 1)
            else:
                with pytest.MonkeyPatch.context() as patch, pytest.raises(RuntimeError, match=wrong):
                    patch.setattr(handle._library, name, lambda *_: 0, raising=False)
                    cublas.multiply("float32", (False, False), sizes, *operands, 1)
            stream.end_capture()


def test_sizes_beyond_those_of_cublas_are_refused(device):
    from basiscli.kernels import cublas

    with pytest.raises(ValueError, match="too large for a product"):
        cublas.multiply("float32", (False, False), (2**31, 4, 4), (0, 4, 0), (0, 4, 0), (0, 4, 0), 1)


@pytest.mark.parametrize("failure", ["function", "end", "begin"])
def test_what_cannot_be_captured_is_run_as_it_stands(device, captured, caplog, monkeypatch, failure):
    calls, stream = [], sys.modules["cupy"].cuda.Stream
    right = getattr(stream, f"{failure}_capture", None)

    def broken(*arguments):
        if failure == "end":
            right(*arguments)
        raise CUDARuntimeError(CAPTURE_UNSUPPORTED)

    def step(x):
        calls.append(x)
        if failure == "function" and device.graph is not None:
            x.get()
        x += 1

    if failure != "function":
        monkeypatch.setattr(stream, f"{failure}_capture", broken)
    x = array(3)
    for _ in range(4):
        captured(step, x)
    assert calls[-1].get().tolist() == [1, 1, 1] and calls[-1] is calls[0] and device.graph_launches == 0
    said = caplog.messages
    assert len(said) == 1 and "goes on without a CUDA graph" in said[0] and "StreamCaptureUnsupported" in said[0]
    device.broken.clear()


def test_an_error_of_the_step_itself_is_raised(device, captured):
    def step(x):
        raise ValueError("no")

    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            captured(step, array(3))
    device.broken.clear()


def test_an_interrupted_capture_is_ended(device, captured):
    def step(x):
        if device.graph is not None:
            raise KeyboardInterrupt
        x += 1

    captured(step, array(3))
    with pytest.raises(KeyboardInterrupt):
        captured(step, array(3))
    assert device.graph is None


def test_a_graph_does_not_outlive_its_memory(device, captured):
    """When memory runs out cupy's pool gives back what a graph of the same pool addresses: nothing may replay it."""

    def step(x):
        y = x + 1
        if x.size > 8:
            sys.modules["cupy"].empty(device.memory, np.uint8)
        x += y

    for _ in range(3):
        captured(step, array(3))
    launched = device.graph_launches
    with pytest.raises(MemoryError):
        captured(step, array(9))
    captured(step, array(3))
    assert device.graph_launches == launched, "a graph was kept"
    for _ in range(2):
        captured(step, array(3))
    assert device.graph_launches == launched + 2


def test_each_shape_has_its_own_memory(device, captured):
    """A pool that runs short gives back what is free in it, and goes on: that must not be what a graph addresses."""

    def step(x):
        y = x + 1
        x += y

    for _ in range(2):
        captured(step, array(1000))
    device.memory = device.taken + 6000  # for the inputs of another shape, but not for its step
    with suppress(MemoryError):
        captured(step, array(300))
    device.memory += 1 << 20
    captured(step, array(1000))
    assert not device.fault


def test_the_stand_in_runs_out_of_memory_as_cupy_does(device):
    cupy = sys.modules["cupy"]
    device.memory = device.taken + (1 << 20)
    kept = cupy.empty(1 << 18, np.uint8)
    cupy.empty((1 << 19) + 1, np.uint8)  # is free again, and goes back to the driver for what comes
    with pytest.raises(MemoryError, match="Out of memory allocating") as caught:
        cupy.empty(1 << 20, np.uint8)
    assert type(caught.value).__name__ == "OutOfMemoryError" and kept.size
    assert cupy.empty((1 << 19) + (1 << 17), np.uint8).size
    with pytest.raises(CUDARuntimeError) as error:
        from tests.emulation.device import Memory

        Memory(1 << 20)
    assert error.value.status == OUT_OF_MEMORY
