"""The pool hands memory on when nobody can see it any more, and keeps no more than was once in use."""

import numpy as np
import pytest

from basiscli.kernels.cpu.memory import ALIGNMENT, LARGE, Pool, empty


def place(array):
    return array.ctypes.data


def test_memory_is_used_again_once_the_last_view_is_gone():
    array = empty((3, LARGE))
    at, view = place(array), array[1:, 5:]
    view[...] = 4
    del array
    other = empty((3, LARGE))
    assert place(other) != at
    other[...] = 1
    assert (view == 4).all()
    del view
    assert place(empty((3, LARGE))) == at


def test_sizes_that_differ_little_share_blocks():
    array = empty((7, LARGE))
    at = place(array)
    del array
    assert place(empty((7, LARGE - 5))) == at


@pytest.mark.parametrize("shape, dtype", [((), np.float32), ((2, 0, 3), np.float32), ((5, 3), np.uint8)])
def test_small_arrays_are_like_those_of_numpy(shape, dtype):
    assert empty(shape, dtype).shape == shape and empty(shape, dtype).dtype == dtype


@pytest.mark.parametrize("dtype", [np.float32, np.uint8, np.float64])
def test_large_arrays_are_aligned_contiguous_and_writable(dtype):
    array = empty((17, LARGE // 3 + 1), dtype)
    assert place(array) % ALIGNMENT == 0 and array.flags.c_contiguous and array.flags.writeable
    assert array.dtype == dtype and array.shape == (17, LARGE // 3 + 1)


def test_the_pool_keeps_at_most_what_was_in_use():
    pool = Pool()
    for size in range(1000, 2000, 10):
        pool.give(pool.take(size))
    assert pool.kept <= 2 * 2000
