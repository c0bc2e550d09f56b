"""The streaming core on sources in memory: pairs, passes, halves and bad input."""

import time

import numpy as np
import pytest

from basiscli.analysis import chunks, correlate, moments, pairs, passes
from basiscli.analysis.passes import Reading
from basiscli.errors import BadInput
from tests.helpers.features import relu_features
from tests.helpers.memory import MemorySource


def scores(sources: list, **options) -> dict:
    return {
        (found.a, found.b, found.layer): found.scores
        for layer in passes.layer_moments(sources, Reading(0))
        for found in pairs.compare_pairs(layer, **options)
    }


@pytest.mark.parametrize("chunk_bytes", [64, 1000, 1 << 20])
def test_all_pairs_equal_numpy_for_any_chunk(monkeypatch, chunk_bytes):
    monkeypatch.setattr(chunks, "CHUNK_BYTES", chunk_bytes)
    arrays = [relu_features(k, 300, 4 + k) for k in range(3)]
    found = scores([MemorySource(f"{k}.h5", {"h": x}) for k, x in enumerate(arrays)])
    assert list(found) == [(0, 1, "h"), (0, 2, "h"), (1, 2, "h")]
    for (i, j, _), one in found.items():
        expected = np.corrcoef(arrays[i].T, arrays[j].T)[: 4 + i, 4 + i :]
        np.testing.assert_allclose(one.r, expected, atol=3e-6)


def test_each_pair_has_its_own_common_layers():
    sources = [
        MemorySource("a.h5", {"one": relu_features(0, 300, 6), "two": relu_features(1, 300, 6)}),
        MemorySource("b.h5", {"two": relu_features(2, 300, 6), "three": relu_features(3, 300, 6)}),
        MemorySource(
            "c.h5",
            {"three": relu_features(4, 300, 6), "two": relu_features(5, 300, 6), "alone": relu_features(6, 300, 6)},
        ),
    ]
    assert passes.shared_layers(sources) == {"two": (0, 1, 2), "three": (1, 2)}
    assert list(scores(sources)) == [(0, 1, "two"), (0, 2, "two"), (1, 2, "two"), (1, 2, "three")]


@pytest.mark.parametrize(
    ("stored", "passes"), [(True, [["one"], ["two"]]), (False, [["one", "two"]])], ids=["stored", "computed"]
)
def test_passes(stored, passes):
    a = MemorySource("a.h5", {"one": relu_features(0, 300, 6), "two": relu_features(1, 300, 6)})
    b = MemorySource("b.h5", {"one": relu_features(2, 300, 6), "two": relu_features(3, 300, 6)}, stored=stored)
    scores([a, b])
    probed_and_read = [layers for layers in passes for _ in range(2)]
    assert a.passes == b.passes == probed_and_read


def test_convolutions_are_read_by_position():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((40, 3, 3, 4)), rng.standard_normal((40, 3, 3, 5))
    found = scores([MemorySource("a.h5", {"c": a}), MemorySource("b.h5", {"c": b})])[0, 1, "c"]
    np.testing.assert_allclose(found.r, np.corrcoef(a.reshape(-1, 4).T, b.reshape(-1, 5).T)[:4, 4:], atol=1e-6)


def test_copies_of_an_image_stay_in_one_half():
    """Noise that two networks share image by image would look like convergence if copies fell in both halves."""
    rng = np.random.default_rng(0)
    images, copies, units = 20, 30, 20
    a, b = (np.repeat(rng.standard_normal((images, units)), copies, axis=0) for _ in range(2))
    apart = scores([MemorySource("a", {"h": a}, copies), MemorySource("b", {"h": b}, copies)])[0, 1, "h"]
    mixed = scores([MemorySource("a", {"h": a}), MemorySource("b", {"h": b})])[0, 1, "h"]
    assert abs(apart.matched_held_out) < 0.2
    assert mixed.matched_held_out > 0.3


def test_one_sample_has_no_held_out_score():
    found = scores(
        [MemorySource("a", {"h": relu_features(0, 1, 6)}), MemorySource("b", {"h": relu_features(0, 1, 6)})]
    )[0, 1, "h"]
    assert found.matched_held_out is None
    assert found.dead == (6, 6)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (MemorySource("b.h5", {"h": relu_features(1, 299, 6)}), "b.h5: layer h has 299 samples, a.h5 has 300"),
        (MemorySource("b.h5", {"h": relu_features(1, 300, 6)}, copies=3), "b.h5 holds 3 copies of each image, a.h5 1"),
        (MemorySource("b.h5", {"other": relu_features(1, 300, 6)}), r"no layer in common \(a.h5: h; b.h5: other\)"),
        (MemorySource("b.h5", {"h": np.zeros((300, 2, 2, 6))}), "b.h5: layer h has 2x2 positions a sample, a.h5 has 1"),
        (
            MemorySource("b.h5", {"h": np.where(relu_features(1, 300, 6) > 2.9, np.nan, 1)}),
            "b.h5: layer h: .* activations are NaN or infinite",
        ),
    ],
    ids=["samples", "copies", "layers", "positions", "nan"],
)
def test_bad_input(second, message):
    with pytest.raises(BadInput, match=message):
        scores([MemorySource("a.h5", {"h": relu_features(0, 300, 6)}), second])


def test_large_activations_correlate_as_small_ones_do():
    x, y = relu_features(0, 300, 6), relu_features(1, 300, 6)
    (expected,) = scores([MemorySource("a.h5", {"h": x}), MemorySource("b.h5", {"h": y})]).values()
    (found,) = scores([MemorySource("a.h5", {"h": x * 1e15}), MemorySource("b.h5", {"h": y * 1e30})]).values()
    np.testing.assert_allclose(found.r, expected.r, atol=1e-6)


def test_products_that_overflow(monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 500)
    late = relu_features(1, 300, 6)
    late[100:] *= 1e30  # the first chunk, which sets the scale, is small
    with pytest.raises(BadInput, match=r"b.h5: layer h: activations so large"):
        scores([MemorySource("a.h5", {"h": relu_features(0, 300, 6)}), MemorySource("b.h5", {"h": late})])


def test_every_value_that_is_not_finite_is_counted(monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 500)
    bad = relu_features(1, 300, 6)
    bad[[3, 200], [0, 5]] = np.nan, -np.inf
    with pytest.raises(BadInput, match=r"b.h5: layer h: 2 activations"):
        scores([MemorySource("a.h5", {"h": relu_features(0, 300, 6)}), MemorySource("b.h5", {"h": bad})])


def test_results_come_in_order_and_few_wait():
    def slow(item: int) -> int:
        time.sleep(0.002 * (item % 3))
        started.append(item)
        return item

    started: list[int] = []
    results = pairs.parallel(slow, range(100))
    assert next(results) == 0
    assert len(started) < 50
    assert list(results) == list(range(1, 100))


def test_an_error_while_reading_ahead_reaches_the_caller():
    def items():
        yield 1
        raise BadInput("cut short")

    found = chunks.ahead(items())
    assert next(found) == 1
    with pytest.raises(BadInput, match="cut short"):
        next(found)


@pytest.mark.parametrize(
    ("positions", "words"), [("all", "12"), ("mean", "mean of 12"), (5, "5 of 12"), (99, "12")], ids=str
)
def test_positions_of_a_convolution(positions, words):
    rng = np.random.default_rng(0)
    a = rng.standard_normal((80, 3, 4, 6)) + rng.standard_normal((80, 1, 1, 6))
    sources = [MemorySource("a", {"c": a}, copies=2), MemorySource("b", {"c": a[..., ::-1]}, copies=2)]
    (found,) = passes.layer_moments(sources, Reading(0, positions=positions))
    rows = {"all": 12, "mean": 1, 5: 5, 99: 12}[positions]
    assert found.compared.positions == words
    assert found.compared.rows_per_image == 2 * rows
    assert sum(half.rows for half in found.halves) == 80 * rows
    (pair,) = pairs.compare_pairs(found)
    assert pair.scores.matched_held_out == pytest.approx(1, abs=1e-5)
    expected = a.mean(axis=(1, 2)) if positions == "mean" else a.reshape(-1, 6)
    if positions != 5:
        np.testing.assert_allclose(pair.scores.r[:, ::-1], np.corrcoef(expected.T), atol=1e-5)


def test_dense_layers_have_one_position():
    sources = [MemorySource("a", {"h": relu_features(0, 300, 6)}), MemorySource("b", {"h": relu_features(1, 300, 6)})]
    for positions in ("all", "mean", 4):
        (found,) = passes.layer_moments(sources, Reading(0, positions=positions))
        assert (found.compared.positions, found.compared.rows_per_image) == ("1", 1)


def test_a_single_network_is_paired_with_itself():
    (found,) = passes.layer_moments([MemorySource("a", {"h": relu_features(0, 300, 6)})], Reading(0, full=True))
    (pair,) = pairs.compare_pairs(found)
    assert (pair.a, pair.b) == (0, 0)
    assert pair.scores.identity == pytest.approx(1, abs=1e-6)


def test_a_bad_layer_does_not_end_the_run():
    rng = np.random.default_rng(0)
    good, bad = (rng.standard_normal((50, 4)) for _ in range(2))
    bad[3] = np.nan
    for stored in (True, False):
        a, b = (MemorySource(name, {"bad": bad, "good": good}, stored=stored) for name in ("a.h5", "b.h5"))
        failed: dict = {}
        (found,) = passes.layer_moments([a, b], Reading(0), failed=failed.setdefault)
        assert found.layer == "good" and "b.h5" not in str(failed["bad"]) and "a.h5: layer bad" in str(failed["bad"])


def test_layers_may_differ_in_their_samples():
    rng = np.random.default_rng(0)
    a, b = (
        MemorySource(name, {"x": rng.standard_normal((50, 4)), "y": rng.standard_normal((30, 4))})
        for name in ("a.h5", "b.h5")
    )
    assert [sum(half.rows for half in found.halves) for found in passes.layer_moments([a, b], Reading(0))] == [50, 30]


def test_means_over_positions_compare_different_numbers_of_tokens():
    rng = np.random.default_rng(0)
    a, b = (MemorySource(name, {"x": rng.standard_normal((50, tokens, 4))}) for name, tokens in (("a", 16), ("b", 17)))
    (found,) = passes.layer_moments([a, b], Reading(0, positions="mean"))
    assert sum(half.rows for half in found.halves) == 50
    with pytest.raises(BadInput, match="17 positions"):
        list(passes.layer_moments([a, b], Reading(0)))


def test_nested_parts_add_up_to_the_halves_and_score_less():
    """π of a quarter and of a half of each half; a noisy permuted copy is found better with more images."""
    rng = np.random.default_rng(0)
    a = rng.standard_normal((400, 30)).astype(np.float32)
    b = (a[:, ::-1] + 3 * rng.standard_normal(a.shape)).astype(np.float32)
    sources = [MemorySource(f"{k}.h5", {"h": array}) for k, array in enumerate((a, b))]
    (plain,) = passes.layer_moments(sources, Reading(0))
    (found,) = passes.layer_moments(sources, Reading(0, nested=True))
    assert [[part.rows for part in of_half] for of_half in found.nested] == [[50, 100]] * 2
    for half, expected in zip(found.halves, plain.halves, strict=True):
        np.testing.assert_allclose(half.cross[0, 1], expected.cross[0, 1], atol=1e-3)
    part_of = moments.parts(400, 1, 0)
    np.testing.assert_array_equal(part_of >= 3, moments.halves(400, 1, 0))
    (pair,) = pairs.compare_pairs(found)
    curve = correlate.learning_curve(pair.halves, pair.nested)
    tables = [
        np.corrcoef(a[rows].T, b[rows].T)[:30, 30:] for rows in (part_of == 0, part_of == 3, part_of < 3, part_of > 2)
    ]
    expected = np.mean([tables[score][correlate.assign(tables[fit])] for fit, score in ((0, 3), (1, 2))])
    assert curve[0] == pytest.approx(expected, abs=1e-4)
    assert curve[0] < curve[1] < pair.scores.matched_held_out
    assert found.nested and not plain.nested


def test_a_line_in_one_over_the_images_is_extrapolated_exactly():
    assert correlate.extrapolated([0.5 - 0.1 * x for x in (4, 2, 1)], (0.25, 0.5, 1)) == pytest.approx(0.5)
    assert correlate.extrapolated([None, 0.2, 0.3], (0.25, 0.5, 1)) is None
