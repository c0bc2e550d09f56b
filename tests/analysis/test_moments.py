"""Moments equal float64 numpy's for any chunking; merging is addition; halves are random and keep copies together."""

from contextlib import nullcontext
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from basiscli.analysis.accumulator import ONE_THREAD, Accumulator
from basiscli.analysis.moments import Moments, halves, merge
from tests.helpers.features import relu_features, tables_of


def accumulate(tables: list[np.ndarray], cuts: list[int], full: bool = True) -> Moments:
    accumulator = Accumulator(len(tables), full)
    edges = [0, *sorted(cuts), len(tables[0])]
    for first, last in pairwise(edges):
        accumulator.add([table[first:last] for table in tables])
    return accumulator.moments()


def reference(tables: list[np.ndarray]) -> Moments:
    tables = [table.astype(np.float64) for table in tables]
    means = tuple(table.mean(axis=0) for table in tables)
    centred = [table - m for table, m in zip(tables, means, strict=True)]
    own = tuple(x.T @ x for x in centred)
    cross = {(i, j): centred[i].T @ centred[j] for i in range(len(tables)) for j in range(i + 1, len(tables))}
    return Moments(len(tables[0]), means, own, cross)


def assert_close(found: Moments, expected: Moments, tolerance: float = 2e-6) -> None:
    """Errors are judged beside the standard deviations: |ΔS_ij| ≤ tolerance √(S_ii S_jj)."""
    assert found.rows == expected.rows
    scales = [np.sqrt(expected.variances(k)) + 1e-12 for k in range(len(expected.means))]
    for k, scale in enumerate(scales):
        assert (np.abs(found.means[k] - expected.means[k]) <= tolerance * scale).all()
        assert (np.abs(found.own[k] - expected.own[k]) <= tolerance * np.outer(scale, scale)).all()
    assert found.cross.keys() == expected.cross.keys()
    for (i, j), s in found.cross.items():
        assert (np.abs(s - expected.cross[i, j]) <= tolerance * np.outer(scales[i], scales[j])).all()


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    rows=st.integers(1, 60),
    units=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    data=st.data(),
)
def test_any_chunking_equals_numpy(seed, rows, units, data):
    tables = tables_of(seed, rows, units)
    cuts = data.draw(st.lists(st.integers(0, rows), max_size=5))
    assert_close(accumulate(tables, cuts), reference(tables), tolerance=1e-5)


def test_more_rows_than_two_blocks():
    tables = tables_of(0, 2 * 1024 + 100, [5, 3])
    assert_close(accumulate(tables, []), reference(tables))


def test_large_mean_and_small_variance():
    tables = [(table * 1e-2 + 1000).astype(np.float32) for table in tables_of(1, 5000, [4, 3])]
    assert_close(accumulate(tables, [700, 3000]), reference(tables))


def test_a_drifting_mean():
    tables = [table + np.linspace(0, 50, 5000, dtype=np.float32)[:, None] for table in tables_of(2, 5000, [4, 3])]
    assert_close(accumulate(tables, [100, 2000]), reference(tables))


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), parts=st.lists(st.integers(1, 30), min_size=1, max_size=4))
def test_merging_parts_equals_the_whole(seed, parts):
    tables = tables_of(seed, sum(parts), [3, 2])
    edges = np.cumsum([0, *parts])
    pieces = [accumulate([t[a:b] for t in tables], []) for a, b in pairwise(edges)]
    assert_close(merge(pieces), reference(tables), tolerance=1e-5)


def test_merging_with_no_rows_changes_nothing():
    found = accumulate(tables_of(0, 9, [2, 2]), [])
    nothing = Moments(0, found.means, found.own, found.cross)
    assert found + nothing is found
    assert nothing + found is found


@pytest.mark.parametrize("constant", [0.0, 0.1, -3.3e7])
def test_a_constant_unit_has_no_variance_at_all(constant):
    tables = tables_of(3, 1000, [3, 2])
    tables[0][:, 1] = constant
    parts = [accumulate([t[rows] for t in tables], [37, 400]) for rows in (slice(0, 500), slice(500, None))]
    for full in parts:
        assert full.variances(0)[1] == 0
    assert merge(parts).variances(0)[1] == 0
    assert accumulate(tables, [37], full=False).variances(0)[1] == 0


def test_diagonal_second_moments():
    tables = tables_of(4, 300, [4, 3])
    full, diagonal = accumulate(tables, [100]), accumulate(tables, [100], full=False)
    assert diagonal.own[0].shape == (4,)
    for k in (0, 1):
        np.testing.assert_allclose(diagonal.variances(k), full.variances(k), rtol=1e-6)
    np.testing.assert_allclose(merge([diagonal, diagonal]).variances(0), 2 * full.variances(0), rtol=1e-6)


def test_positions_are_rows():
    maps = np.random.default_rng(5).standard_normal((10, 4, 4, 3), dtype=np.float32)
    found = accumulate([maps], [3])
    assert_close(found, reference([maps.reshape(-1, 3)]))


def test_a_pair_of_many_networks():
    tables = tables_of(6, 50, [3, 4, 2])
    found = accumulate(tables, []).pair(0, 2)
    assert_close(found, reference([tables[0], tables[2]]))
    itself = accumulate(tables, []).pair(1, 1)
    np.testing.assert_array_equal(itself.cross[0, 1], itself.own[0])


def test_values_that_are_not_finite_are_counted():
    tables = tables_of(7, 100, [3, 2])
    tables[1][[5, 50, 70], [0, 1, 1]] = np.nan, np.inf, -np.inf
    accumulator = Accumulator(2)
    for first in (0, 60):
        accumulator.add([table[first : first + 60] for table in tables])
    accumulator.moments()
    assert accumulator.not_finite == [0, 3]


def test_different_numbers_of_rows():
    with pytest.raises(ValueError, match="different numbers of rows"):
        Accumulator(2).add([np.zeros((3, 1), np.float32), np.zeros((4, 1), np.float32)])


def test_no_rows():
    accumulator = Accumulator(1)
    accumulator.add([np.zeros((0, 2), np.float32)])
    with pytest.raises(ValueError, match="no rows"):
        accumulator.moments()


@given(images=st.integers(1, 40), copies=st.integers(1, 9), seed=st.integers(0, 5), cut=st.integers(0, 8))
def test_halves_keep_the_copies_of_an_image_together(images, copies, seed, cut):
    samples = max(images * copies - cut % copies, 1)
    second = halves(samples, copies, seed)
    assert second.shape == (samples,)
    by_image = [second[i * copies : (i + 1) * copies] for i in range(-(-samples // copies))]
    assert all(len(set(part)) == 1 for part in by_image)
    assert sum(part[0] for part in by_image) == len(by_image) // 2


def test_halves_are_drawn_anew_for_each_seed():
    assert (halves(100, 1, 0) == halves(100, 1, 0)).all()
    assert (halves(100, 1, 0) != halves(100, 1, 1)).any()


def test_some_units_of_each_network():
    tables = tables_of(8, 50, [4, 3])
    kept = [np.array([True, False, True, True]), np.array([2, 0])]
    chosen = [tables[0][:, kept[0]], tables[1][:, kept[1]]]
    assert_close(accumulate(tables, []).units(*kept), reference(chosen))
    assert accumulate(tables, [], full=False).units(*kept).own[1].shape == (2,)


@pytest.mark.parametrize("units, threads", [(8, [1]), (ONE_THREAD // 2 + 1, [])])
def test_products_of_narrow_layers_take_one_thread(monkeypatch, units, threads):
    asked: list[int] = []
    blas = SimpleNamespace(limit=lambda limits: asked.append(limits) or nullcontext())
    monkeypatch.setattr("basiscli.analysis.accumulator.blas", lambda: blas)
    accumulate([np.ones((4, units), np.float32)] * 2, [])
    assert asked == threads


def test_a_star_keeps_the_products_with_the_first_network_only():
    tables = [relu_features(seed).astype(np.float32) for seed in range(3)]
    star, whole = Accumulator(3, products=[(0, range(1, 3))]), Accumulator(3)
    for accumulator in (star, whole):
        accumulator.add(tables)
    found, every = star.moments(), whole.moments()
    assert list(found.cross) == [(0, 1), (0, 2)]
    for pair, table in found.cross.items():
        np.testing.assert_array_equal(table, every.cross[pair])
    np.testing.assert_array_equal((found + found).cross[0, 2], (every + every).cross[0, 2])
    np.testing.assert_array_equal(found.pair(0, 2).variances(1), every.variances(2))


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x + 1e8,
        lambda x: x * 1e-30,
        lambda x: x * 1e300,
        lambda x: x * 10.0 ** np.linspace(-30, 0, x.shape[1]),
        lambda x: 1e8 + x * 10.0 ** np.linspace(-1, 3, x.shape[1]),
    ],
)
def test_correlations_do_not_depend_on_offsets_and_scales(change):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 500, 6))
    y += x
    expected = np.corrcoef(x, y, rowvar=False)[:6, 6:]
    halves = [Accumulator(2) for _ in range(2)]
    for accumulator, rows in zip(halves, (slice(0, 200), slice(200, 500)), strict=True):
        accumulator.begin([change(x), y])
        accumulator.add([change(x)[rows], y[rows]])
    whole = halves[0].moments() + halves[1].moments()
    found = whole.cross[0, 1] / np.sqrt(np.outer(whole.variances(0), whole.variances(1)))
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_the_means_of_small_and_large_units_keep_their_ratio():
    x = np.random.default_rng(0).standard_normal((400, 3)) * [1, 1e-20, 1e-25] + [2, 3e-20, 4e-25]
    found = accumulate([x], [])
    np.testing.assert_allclose(found.means[0], x.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(found.variances(0), len(x) * x.var(axis=0), rtol=1e-5)
