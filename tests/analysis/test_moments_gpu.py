"""Moments that are added up on a device are those of the host."""

import sys

import numpy as np
import pytest

from basiscli.analysis.accumulator import Accumulator
from basiscli.analysis.moments import halves
from tests.helpers.features import tables_of


def both(tables, sizes, chosen=None, **options):
    """Return the accumulator of the host and that of the device, fed with the same chunks."""
    cupy, made = sys.modules["cupy"], []
    for place in (lambda x: x, cupy.asarray):
        sums, first = Accumulator(len(tables), **options), 0
        for size in (*sizes, len(tables[0]) - sum(sizes)):
            part = slice(first, first + size)
            sums.add([place(table[part]) for table in tables], None if chosen is None else chosen[part])
            first += size
        made.append(sums)
    return made


def assert_alike(ours, theirs):
    assert theirs.rows == ours.rows
    for name in ("means", "own"):
        for a, b in zip(getattr(ours, name), getattr(theirs, name), strict=True):
            assert isinstance(b, np.ndarray) and b.dtype == np.float64
            np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-5 * max(1, np.abs(a).max()))
    for a, b in (
        zip(*((*one.norms.third, one.norms.fourth) for one in (ours, theirs)), strict=True) if ours.norms else ()
    ):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-4 * max(1, np.abs(a).max()))
    assert ours.cross.keys() == theirs.cross.keys()
    for pair, a in ours.cross.items():
        np.testing.assert_allclose(theirs.cross[pair], a, rtol=1e-5, atol=1e-5 * max(1, np.abs(a).max()))


@pytest.mark.parametrize(
    "options", [{}, {"full": True}, {"products": [(0, range(1, 3))]}, {"full": True, "norms": True}]
)
def test_moments_of_the_device(device, options):
    ours, theirs = both(tables_of(1, 700, [5, 3, 9]), [1, 400], **options)
    before = device.waits
    ours, theirs = ours.moments(), theirs.moments()
    assert device.waits > before
    assert_alike(ours, theirs)


def test_chosen_rows_positions_and_a_large_mean(device):
    tables = [t.reshape(100, 4, 4, -1) + np.float32(50) for t in tables_of(2, 1600, [6, 2])]
    ours, theirs = both(tables, [30], chosen=halves(100, 1, 0))
    assert_alike(ours.moments(), theirs.moments())


def test_nothing_waits_while_rows_are_added(device):
    cupy, sums = sys.modules["cupy"], Accumulator(2, full=True)
    chunks = [[cupy.asarray(t) for t in tables_of(k, 50, [4, 3])] for k in range(3)]
    sums.add(chunks[0])
    before = device.waits
    for chunk in chunks[1:]:
        sums.add(chunk)
    assert device.waits == before


def test_what_is_not_finite_is_counted_and_a_constant_has_no_variance(device):
    tables = tables_of(3, 300, [3, 2])
    tables[0][:, 1] = 0.1
    _, theirs = both(tables, [100])
    assert theirs.moments().variances(0)[1] == 0 and theirs.not_finite == [0, 0]
    tables[1][[3, 150, 299], 0] = np.nan, np.inf, -np.inf
    _, theirs = both(tables, [100])
    assert theirs.not_finite == [0, 3]


def test_products_are_float32_whatever_the_precision(device):
    from basiscli.kernels.device import multiplying

    tables = tables_of(4, 500, [4, 4])
    with multiplying("bf16"):
        ours, theirs = both(tables, [200], full=True)
    assert_alike(ours.moments(), theirs.moments())
