"""Linear assignment: the best sum, beside scipy's, on tables with ties, dead units and any shape."""

import sys

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from basiscli.kernels import assignment
from basiscli.kernels.cpu import assignment as compiled
from basiscli.rng import generator
from tests.benchmarks import assignment as benchmark

KINDS = {
    "spread": lambda rng, size: rng.standard_normal(size),
    "ties": lambda rng, size: np.round(rng.standard_normal(size)),
    "dead units": lambda rng, size: rng.standard_normal(size) * (rng.random(size[0]) > 0.4)[:, None],
    "dead units on both sides": lambda rng, size: (
        rng.standard_normal(size) * (rng.random(size[0]) > 0.4)[:, None] * (rng.random(size[1]) > 0.4)
    ),
    "one number": lambda rng, size: np.ones(size),
    "float32": lambda rng, size: rng.standard_normal(size).astype(np.float32),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_sum_is_the_largest_and_each_unit_is_paired_once(kind):
    rng = generator(0, kind)
    for _ in range(60):
        r = KINDS[kind](rng, tuple(rng.integers(1, 30, 2)))
        rows, columns = assignment.assign(r)
        assert len(rows) == min(r.shape) == len(set(columns.tolist())) and (np.diff(rows) > 0).all()
        best = r[linear_sum_assignment(r, maximize=True)].sum(dtype=float)
        assert r[rows, columns].sum(dtype=float) == pytest.approx(best, abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_numpy_and_compiled_give_the_same_columns(kind):
    rng = generator(1, kind)
    for _ in range(30):
        size = tuple(sorted(rng.integers(1, 40, 2)))
        r = np.ascontiguousarray(KINDS[kind](rng, size), np.float64)
        equal = (r == r[:, :1]).all(axis=1)
        columns = [np.full(len(r), -1) for _ in range(2)]
        for solve, of in zip((assignment.solve, compiled.solve), columns, strict=True):
            solve(r, equal, of)
        np.testing.assert_array_equal(*columns)


def test_a_wide_layer_is_matched_with_its_permuted_copy_and_beside_scipy():
    rng = generator(2, "wide")
    x = rng.standard_normal((400, 150))
    order = rng.permutation(150)
    r = np.corrcoef(x.T, (x[:, order] + 0.5 * rng.standard_normal(x.shape)).T)[:150, 150:]
    np.testing.assert_array_equal(order[assignment.assign(r)[1]], np.arange(150))
    chance = rng.standard_normal((150, 170))
    best = chance[linear_sum_assignment(chance, maximize=True)].sum()
    assert chance[assignment.assign(chance)].sum() == pytest.approx(best, abs=1e-9)


def test_nothing_to_pair_and_numbers_that_are_none():
    assert [len(part) for part in assignment.assign(np.empty((0, 3)))] == [0, 0]
    assert [len(part) for part in assignment.assign(np.empty((3, 0)))] == [0, 0]
    for value in (np.nan, np.inf):
        with pytest.raises(ValueError, match="not finite"):
            assignment.assign(np.array([[1, value], [0, 1]]))


def test_the_first_small_tables_do_without_numba(monkeypatch):
    monkeypatch.delitem(sys.modules, "numba", raising=False)
    monkeypatch.setattr(assignment, "_small_tables", iter(range(100)))
    small, wide = np.eye(10), np.eye(assignment.SMALL)
    assert assignment._solver(wide) is compiled.solve
    assert [assignment._solver(small) for _ in range(assignment.FEW)] == [assignment.solve] * assignment.FEW
    assert assignment._solver(small) is compiled.solve


def test_the_benchmark_runs():
    lines = benchmark.table([16], rounds=1)
    assert len(lines) == 5 and all(line.startswith("| 16 |") for line in lines[2:])
