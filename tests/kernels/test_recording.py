"""What a recording promises: memory that no two arrays share at a time, and refusal of what it cannot repeat."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from basiscli.kernels import cpu
from basiscli.kernels.cpu.memory import constant, empty
from basiscli.kernels.cpu.recording import Recording, Unrecordable
from basiscli.kernels.cpu.replaying import Replayed, split


@given(st.integers(1, 9), st.integers(1, 50), st.integers(1, 9))
def test_every_step_of_a_seed_is_run_once_and_nobody_waits(seeds, steps, workers):
    workers = min(seeds, workers)
    parts = split(seeds, steps, workers)
    lengths = [int((part[:, 2] - part[:, 1]).sum()) for part in parts]
    assert sum(lengths) == seeds * steps and max(lengths) - min(lengths) <= 1
    ended = {}  # when the steps of a seed are done, in steps of a worker
    for part in parts:
        now = 0
        for seed, first, last in part:
            if first == 0:
                ended[seed] = last, now + last
            now += last - first
    for part in parts:
        now = 0
        for seed, first, last in part:
            if first:
                done, when = ended[seed]
                assert done == first and last == steps and when <= now
            now += last - first


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=30), st.integers(0, 2**30))
def test_arrays_that_live_at_the_same_time_lie_apart(sizes, dropped):
    current = Recording([], 1)
    with current.active():
        held: list[np.ndarray] = []
        for number, size in enumerate(sizes):
            held.append(empty((size,)))
            if dropped >> number & 1:
                held.pop(0)
            places = sorted((array.ctypes.data, array.ctypes.data + array.nbytes) for array in held)
            assert all(a[1] <= b[0] for a, b in pairwise(places))
            assert all(start % 64 == 0 for start, _ in places)


def test_memory_that_an_array_left_serves_the_next():
    current = Recording([], 1)
    with current.active():
        first = empty((1000,))
        place = first.ctypes.data
        view = first[10:]
        del first
        assert empty((1000,)).ctypes.data != place, "a view still lives there"
        del view
        assert empty((500,)).ctypes.data == place


def test_seeds_that_run_alone_share_no_memory():
    current = Recording([], 2, alone=3)
    with current.active():
        places = {empty((1000,)).ctypes.data for _ in range(5)}
    assert len(places) == 5


@pytest.mark.parametrize(
    "step",
    [
        lambda x: x + x,
        lambda x: np.mean(x),
        lambda x: np.concatenate([x, x]),
        lambda x: x.__setitem__(slice(None), 0),
        lambda x: x.sum(),
        lambda x: bool(x[0, 0, 0] > 0),
        lambda x: cpu.relu(np.zeros((1, 2, 3), np.float32)),
        lambda x: cpu.relu(np.ascontiguousarray(np.asarray(x).swapaxes(1, 2))),
    ],
)
def test_what_numpy_does_cannot_be_recorded(step):
    current = Recording([], 1)
    with current.active(), pytest.raises(Unrecordable):
        step(empty((1, 2, 3)))


def test_nothing_runs_while_a_step_is_recorded():
    x = np.full((2, 3, 4), -1, np.float32)
    seen = []

    def step(arrays, shift):
        y = cpu.add(arrays["x"], constant(np.ones(x.shape)))
        seen.append(x.copy())
        cpu.add_units(arrays["x"], shift)
        return y

    replayed = Replayed(step, {"x": x}, 0, [])
    shifts = np.ascontiguousarray(np.arange(40, dtype=np.float32).reshape(2, 5, 4))
    assert replayed.run([shifts])
    assert (seen[0] == -1).all() and len(seen) == 1
    np.testing.assert_array_equal(x, np.broadcast_to(-1 + shifts.sum(axis=1)[:, None], x.shape))
