"""Pairs in blocks: every pair once, as much as fits into memory, and the same results in every division."""

import dataclasses

import numpy as np
import pytest

from basiscli.analysis import blocks, passes
from basiscli.analysis.assess import CorrelationRequest, assess_layers
from basiscli.analysis.blocks import Costs, Member
from basiscli.errors import BadInput
from tests.helpers.features import relu_features
from tests.helpers.memory import MemorySource

COSTS = Costs(full=False, nested=False, chunk=1000, rows=100)


def members(count: int, units: int = 400) -> list[Member]:
    return [Member(k, "h", units) for k in range(count)]


def pairs_of(divided: list[blocks.Block]) -> list[tuple[int, int]]:
    return [(block.numbers[i], block.numbers[j]) for block in divided for i, js in block.products() for j in js]


@pytest.mark.parametrize("memory", [1, 10e6, 40e6, 1e12])
@pytest.mark.parametrize("most", [4, 7, 10**6])
def test_every_pair_is_in_one_block_that_fits(memory, most):
    whole = blocks.every_pair("h", members(11))
    divided = blocks.divide(whole, COSTS, memory, most)
    found = pairs_of(divided)
    assert sorted(found) == [(i, j) for i in range(11) for j in range(i + 1, 11)] and len(set(found)) == len(found)
    smallest = all(len(block.numbers) <= 2 * whole.tile for block in divided)
    assert smallest or all(len(block.numbers) <= most for block in divided)
    if memory < 1e12 and most > 11:
        assert len(divided) > 1
    assert sum(block.completes for block in divided) == len({block.rows for block in divided})


def test_stars_and_lists_beside_each_other():
    divided = blocks.divide(blocks.star("h", members(9)), COSTS, 1, 100)
    assert sorted(pairs_of(divided)) == [(0, j) for j in range(1, 9)] and len(divided) == 4
    divided = blocks.divide(blocks.across("h", members(3), members(4)), COSTS, 1, 100)
    assert sorted(pairs_of(divided)) == [(i, j) for i in range(3) for j in range(3, 7)]


def sources(stored: bool, scale: int = 1) -> list[MemorySource]:
    """Networks of two layers and several widths, whose tiles hold two networks."""
    return [
        MemorySource(
            f"{k}.h5",
            {"one": relu_features(k, 150, scale * u), "two": relu_features(9 + k, 150, scale * u // 2)},
            stored=stored,
        )
        for k, u in enumerate([40, 30, 50, 20, 35, 42])
    ]


@pytest.fixture
def counted(monkeypatch):
    """Let memory hold moments alone, in tiles of networks of some 50 units."""
    monkeypatch.setattr("basiscli.device.memory.resident", lambda: 0)
    monkeypatch.setattr(passes, "SCORING_TABLES", 0)
    monkeypatch.setattr(blocks, "TILE_UNITS", 100)


def assessed(opened: list, memory: int | None, request: CorrelationRequest) -> list:
    """Everything that comes of the pairs: scores, correlations and permutations."""
    found = []

    def keep(assessment):
        scores = dataclasses.asdict(assessment.pair.scores)
        found.append(((assessment.pair.layer, assessment.pair.a, assessment.pair.b), scores, dict(assessment.fields)))
        return assessment

    layers = passes.layer_moments(opened, request.reading(memory=memory))
    order = [(c.layer, one.pair.a, one.pair.b) for c, of in assess_layers(layers, request, keep=keep) for one in of]
    assert order == sorted(order)
    return sorted(found, key=lambda one: one[0])


@pytest.mark.parametrize("stored", [True, False])
def test_results_are_bitwise_the_same_in_every_division(counted, stored):
    request = CorrelationRequest(("rotated", "shuffled"), 2, ("cka",), extrapolate=True)
    opened = sources(stored)
    expected = assessed(opened, None, request)
    once = len(opened[0].passes)
    found = assessed(opened, 8 << 20, request)
    assert len(opened[0].passes) > 2 * once  # there were blocks
    np.testing.assert_equal(found, expected)


def test_products_of_wide_layers_are_bitwise_the_same_in_every_division(counted):
    """Wide layers take products on all cores."""

    def tables(memory: int | None) -> dict:
        found = {}
        for block in passes.layer_moments(sources(True, 3), passes.Reading(0, True, memory=memory)):
            for half, of_half in enumerate(block.halves):
                for (i, j), table in of_half.cross.items():
                    found[block.layer, half, block.networks[i], block.networks[j]] = table
                for k, table in enumerate(of_half.own):
                    found[block.layer, half, block.networks[k]] = table
        return found

    whole, divided = tables(None), tables(8 << 20)
    assert whole.keys() == divided.keys()
    for place, table in whole.items():
        np.testing.assert_array_equal(divided[place], table)


def test_memory_that_is_too_little_says_how_much_is_needed(monkeypatch):
    monkeypatch.setattr("basiscli.device.memory.resident", lambda: 1 << 20)
    with pytest.raises(BadInput, match=r"layer one: a pair of 50 units needs \d+ MB: give `memory` \d+M or more"):
        list(passes.layer_moments(sources(True), passes.Reading(0, memory=1 << 20)))


def test_a_bad_network_spoils_its_layer_before_a_pair_is_yielded(counted):
    opened = sources(True)
    opened[5].arrays["one"][3, 4] = np.nan
    failed: dict[str, BadInput] = {}
    layers = passes.layer_moments(opened, passes.Reading(0, memory=1 << 20), failed=failed.setdefault)
    counts = {compared.layer: len(list(pairs)) for compared, pairs in assess_layers(layers, CorrelationRequest())}
    assert counts == {"one": 0, "two": 15}
    assert len(opened[0].passes) > 4
    assert "5.h5: layer one: 1 activations" in str(failed["one"])


def test_an_estimate_is_the_memory_of_the_moments_and_never_more_than_there_is(monkeypatch):
    units, networks = [40, 20], 6
    pairs = networks * (networks - 1) / 2 + networks
    tables = 4 * 8 * sum(u**2 for u in units) * pairs  # of two halves; those of the layer before are still in use
    waiting = 2 * 150 * 4 * sum(units) * networks
    assert passes.estimate(units, networks, 150) == tables + waiting
    monkeypatch.setattr("basiscli.device.placement.available_memory", lambda: 1000)
    assert passes.estimate(units, networks, 150) == 750
