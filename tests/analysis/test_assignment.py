"""Matching against brute force, against the networks' own permutation, and planted permutations."""

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from basiscli.analysis import assignment
from basiscli.analysis.correlate import correlation
from basiscli.nn import models, weights
from basiscli.nn.unit_groups import Axis, Segment, UnitGroups, permute_units, unit_groups
from tests.helpers.features import moments_of, relu_features
from tests.helpers.networks import IMAGE, MODELS

# A fixed axis of 5, groups of 3 and 4 units, one of which is read flattened (twice over) and beside fixed units.
UNITS = {"g": 3, "h": 4}
WHOLE = {group: Axis((Segment(group, 0, size),)) for group, size in UNITS.items()}
BESIDE = Axis((Segment("g", 0, 3), Segment(None, 3, 5)), repeat=2, reads=True)
AXES = {
    "a/w": {-1: WHOLE["g"]},
    "a/b": {-1: WHOLE["g"]},
    "b/w": {-2: BESIDE, -1: WHOLE["h"]},
    "c/w": {-2: WHOLE["h"], -1: WHOLE["g"]},
    "d/w": {-2: WHOLE["h"]},
}
SHAPES = {"a/w": (5, 3), "a/b": (3,), "b/w": (2, 10, 4), "c/w": (3, 3, 4, 3), "d/w": (4, 2)}


def drawn(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {path: rng.standard_normal(shape) for path, shape in SHAPES.items()}


def problem(seed: int) -> assignment.Objective:
    return assignment.objective(UNITS, AXES, drawn(2 * seed), drawn(2 * seed + 1))


def every(units: dict[str, int]) -> list[assignment.Permutations]:
    """All permutations of all groups."""
    each = product(*(permutations(range(size)) for size in units.values()))
    return [{group: np.array(p) for group, p in zip(units, chosen, strict=True)} for chosen in each]


def random(units: dict[str, int], seed: int) -> assignment.Permutations:
    rng = np.random.default_rng(seed)
    return {group: rng.permutation(size) for group, size in units.items()}


def permuted(found: UnitGroups, arrays: dict, p: assignment.Permutations) -> dict[str, np.ndarray]:
    moved = permute_units(found, {k: v[None] for k, v in arrays.items()}, {g: q[None] for g, q in p.items()})
    return {path: values[0] for path, values in moved.items()}


@pytest.mark.parametrize("name", MODELS)
def test_the_objective_is_the_inner_product_with_the_permuted_network(name):
    network = models.build(IMAGE | MODELS[name])
    found, a, b = unit_groups(network), weights.initial(network, 0), weights.initial(network, 1)
    rng = np.random.default_rng(0)
    for arrays in (a, b):
        arrays |= {k: rng.standard_normal(v.shape).astype("f") for k, v in arrays.items() if v.ndim == 1}
    f = assignment.objective(found.groups, found.axes, *({k: w[k] for k in network.trained} for w in (a, b)))
    held = [path for path in network.trained if found.axes[path][-1].groups() or path == "output/w"]
    norm = np.prod([np.sqrt(sum(float((w[k].astype("d") ** 2).sum()) for k in held)) for w in (a, b)])
    for p in (assignment.identities(found.groups), random(found.groups, 1)):
        moved = permuted(found, b, p)
        value = sum(float((a[path].astype("d") * moved[path]).sum()) for path in held)
        assert f.value(p) == pytest.approx(value, rel=1e-4)
        assert f.cosine(p) == pytest.approx(value / norm, rel=1e-4)


def test_the_cosine_of_a_group_is_over_the_parts_of_arrays_that_hold_it():
    f, p = problem(0), random(UNITS, 3)
    a, b = drawn(0), drawn(1)
    g, h = p["g"], p["h"]
    rows = np.concatenate([g, 3 + np.arange(2), 5 + g, 8 + np.arange(2)])
    pairs = [
        (a["b/w"], b["b/w"][:, rows][:, :, h]),
        (a["c/w"], b["c/w"][:, :, h][..., g]),
        (a["d/w"], b["d/w"][h]),
    ]
    value = sum(float((x * y).sum()) for x, y in pairs)
    norm = np.prod([np.sqrt(sum(float((one[k] ** 2).sum()) for one in pairs)) for k in (0, 1)])
    assert f.cosines(p)["h"] == pytest.approx(value / norm)


def test_what_is_on_fixed_axes_only_counts_for_nothing():
    axes = AXES | {"e/w": {}}
    a, b = (drawn(seed) | {"e/w": np.full((2, 2), 100.0)} for seed in (0, 1))
    p = random(UNITS, 0)
    assert assignment.objective(UNITS, axes, a, b).value(p) == problem(0).value(p)


def test_a_group_on_both_axes_of_an_array_is_refused():
    with pytest.raises(ValueError, match="e/w: g lies on both axes"):
        assignment.objective(
            UNITS, AXES | {"e/w": {-2: WHOLE["g"], -1: WHOLE["g"]}}, *(drawn(s) | {"e/w": np.eye(3)} for s in (0, 1))
        )


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_one_step_is_the_best_of_all_permutations_of_the_group(seed):
    f, start = problem(seed), random(UNITS, seed)
    for group in UNITS:
        best = max(f.value(start | {group: np.array(p)}) for p in permutations(range(UNITS[group])))
        assert assignment.descend(f, start, [group]).value == pytest.approx(best)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.lists(st.sampled_from(list(UNITS)), max_size=8))
def test_the_objective_never_falls(seed, order):
    f, p = problem(seed), random(UNITS, seed)
    value = f.value(p)
    for group in order:
        step = assignment.descend(f, p, [group])
        assert step.value >= value - 1e-9 * abs(value)
        p, value = step.permutations, step.value
    end = assignment.descend(f, p, list(UNITS))
    assert end.value >= value - 1e-9 * abs(value)
    assert end.value == pytest.approx(f.value(end.permutations))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6))
def test_restarts_find_the_best_of_all_permutations(seed):
    f = problem(seed)
    best = max(map(f.value, every(UNITS)))
    found = assignment.search(f, assignment.starts(UNITS, 40, seed, assignment.identities(UNITS)))
    assert found.best.value == pytest.approx(best)
    assert 1 <= found.agreed <= 40 and all(found.agreed <= same <= 40 for same in found.same.values())


def test_a_local_optimum_cannot_be_left_by_any_single_group():
    for seed in range(20):
        f = problem(seed)
        end = assignment.descend(f, random(UNITS, seed), list(UNITS))
        for group, size in UNITS.items():
            others = [f.value(end.permutations | {group: np.array(p)}) for p in permutations(range(size))]
            assert end.value >= max(others) - 1e-5 * abs(end.value)


def test_a_search_is_the_best_of_its_descents_every_time():
    f, starts = problem(5), assignment.starts(UNITS, 9, 1, assignment.identities(UNITS))
    found, again = assignment.search(f, starts), assignment.search(f, starts)
    alone = [assignment.descend(f, start.permutations, start.order) for start in starts]
    assert found.best.value == max(one.value for one in alone)
    assert all(np.array_equal(p, again.best.permutations[group]) for group, p in found.best.permutations.items())
    assert found.agreed == sum(one.value > found.best.value * (1 - 1e-6) for one in alone)


def test_starts_are_first_then_unplaced_and_random_in_turn_and_no_order_unplaced_twice():
    first = random(UNITS, 0)
    found = assignment.starts(UNITS, 12, 0, first)
    assert found[0].permutations is first
    unplaced = [start.order for start in found if not start.permutations]
    assert 1 <= len(unplaced) <= 2 and len(set(unplaced)) == len(unplaced)
    assert all(sorted(start.order) == sorted(UNITS) for start in found)
    again = assignment.starts(UNITS, 12, 0, first)
    assert all(
        np.array_equal(a.permutations.get("h"), b.permutations.get("h")) for a, b in zip(found, again, strict=True)
    )
    fixed = assignment.starts(UNITS, 5, 0, first, fixed=True)
    assert all(start.permutations is first for start in fixed) and len({start.order for start in fixed}) == 2


def planted(network, seed: int, noise: float = 0.0) -> tuple[assignment.Objective, UnitGroups, assignment.Permutations]:
    """The objective of a network and its permuted copy, and the permutation that undoes it."""
    found, a = unit_groups(network), weights.initial(network, seed)
    rng = np.random.default_rng(seed)
    hidden = {group: rng.permutation(size) for group, size in found.groups.items()}
    b = permuted(found, a, hidden)
    b = {path: b[path] + noise * a[path].std() * rng.standard_normal(b[path].shape) for path in network.trained}
    f = assignment.objective(found.groups, found.axes, {path: a[path] for path in network.trained}, b)
    return f, found, {group: np.argsort(p) for group, p in hidden.items()}


def recovered(
    f: assignment.Objective, found: UnitGroups, answer: assignment.Permutations, seed: int, restarts: int
) -> bool:
    best = assignment.search(
        f, assignment.starts(found.groups, restarts, seed, assignment.identities(found.groups))
    ).best
    return all(np.array_equal(best.permutations[group], p) for group, p in answer.items())


@pytest.mark.parametrize("name", MODELS)
def test_planted_permutations_are_found(name):
    f, found, answer = planted(models.build(IMAGE | MODELS[name]), 3)
    assert f.cosine(answer) == pytest.approx(1, abs=1e-5)
    assert recovered(f, found, answer, 0, restarts=4)


def test_planted_permutations_of_a_residual_network_are_found_at_least_90_times_of_100():
    network = models.build(IMAGE | {"model": "resnet", "depth": 14, "width": 0.25})
    assert sum(recovered(*planted(network, seed), seed, restarts=4) for seed in range(100)) >= 90


def test_restarts_climb_to_planted_permutations_under_noise_that_one_descent_misses():
    network = models.build(IMAGE | {"model": "resnet", "depth": 14, "width": 0.5})
    reached = {1: 0, 8: 0}
    for seed in range(10):
        f, found, answer = planted(network, seed, noise=5)
        for restarts in reached:
            starts = assignment.starts(found.groups, restarts, 0, assignment.identities(found.groups))
            reached[restarts] += assignment.search(f, starts).best.value >= f.value(answer) * (1 - 1e-5)
    assert reached[8] >= 8 and reached[1] <= reached[8] - 2


def test_activations_of_a_permuted_copy_are_matched_segment_by_segment():
    x = relu_features(0, units=7)
    order = np.array([2, 0, 1, 6, 4, 3, 5])
    layers = {"narrow": (Segment("g", 0, 3),), "wide": (Segment("g", 0, 3), Segment("h", 3, 7))}
    moments = {"narrow": moments_of(x[:, :3], x[:, order[:3]]), "wide": moments_of(x, x[:, order])}
    tables = assignment.similarities({"g": 3, "h": 4, "nowhere": 2}, layers, moments)
    r = correlation(moments["wide"])
    np.testing.assert_allclose(tables["h"], r[3:, 3:])
    np.testing.assert_allclose(tables["g"], (r[:3, :3] + correlation(moments["narrow"])) / 2)
    assert not tables["nowhere"].any()
    found = assignment.matched(tables)
    np.testing.assert_array_equal(found["g"], np.argsort(order[:3]))
    np.testing.assert_array_equal(found["h"], np.argsort(order[3:] - 3))


@settings(max_examples=10, deadline=None)
@given(st.integers(2, 7), st.integers(0, 10**6))
def test_matched_is_the_best_of_all_permutations(units, seed):
    table = np.random.default_rng(seed).standard_normal((units, units))
    best = max(table[np.arange(units), np.array(p)].sum() for p in permutations(range(units)))
    p = assignment.matched({"g": table})["g"]
    assert table[np.arange(units), p].sum() == pytest.approx(best)


def test_products_are_means_over_rows():
    x, y = relu_features(1), relu_features(2)
    np.testing.assert_allclose(assignment.products(moments_of(x, y)), x.T @ y / len(x), rtol=1e-4, atol=1e-4)


def test_relative_permutations_lead_from_one_to_the_other():
    units = np.random.default_rng(0).standard_normal(6)
    to_a, to_b = random({"g": 6}, 1), random({"g": 6}, 2)
    a, b = units[np.argsort(to_a["g"])], units[np.argsort(to_b["g"])]
    np.testing.assert_array_equal(b[assignment.relative(to_a, to_b)["g"]], a)
