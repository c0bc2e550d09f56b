"""Kurtosis and sparseness of units beside rotated axes: planted answers, chunks, and bad input."""

import numpy as np
import pytest
from scipy.stats import kurtosis

from basiscli.analysis import chunks, powers
from basiscli.analysis.measures import source
from basiscli.analysis.privilege import layer_privileges
from basiscli.analysis.random_maps import haar
from basiscli.analysis.statistics import over_sample
from basiscli.errors import BadInput
from basiscli.rng import generator
from tests.helpers.memory import MemorySource

ROWS, UNITS = 20000, 32
# Independent Laplace units have k = 3, and an axis q has 3 Σ q⁴, in the mean 9 / (U + 2).
LAPLACE = 3 - 9 / (UNITS + 2)


def laplace(seed: int = 0, rows: int = ROWS) -> np.ndarray:
    return generator(seed, "laplace").laplace(size=(rows, UNITS)).astype(np.float32)


def privilege_of(x, **options):
    (result,) = layer_privileges(source(x, "x"), **options)
    return result


def test_sparse_units_are_privileged_by_the_known_value_in_their_own_axes_only():
    own = privilege_of(laplace(), whiten=True)
    turned = privilege_of(laplace() @ haar(generator(1, "turn"), UNITS, np.float32), whiten=True)
    for space in ("", "_raw", "_whitened"):
        assert own.scores[f"privilege{space}"] == pytest.approx(LAPLACE, abs=0.1)
        assert turned.scores[f"privilege{space}"] == pytest.approx(0, abs=0.06)
        # Of a Laplace variable 1 - (mean |x|)² / mean x² is 1/2.
        assert own.fields[f"sparseness{space}"] == pytest.approx(0.5, abs=0.01)
        assert turned.scores[f"sparseness_privilege{space}"] == pytest.approx(0, abs=0.01)


def test_the_numbers_are_those_of_the_rotated_array():
    x = laplace(rows=3000) * np.linspace(1, 5, UNITS, dtype=np.float32) + 3
    result = privilege_of(x, draws=2)
    standard = (x - x.mean(axis=0)) / x.std(axis=0)
    turns = [powers.rotation(UNITS, 0, draw).astype(np.float64) for draw in range(2)]
    of_axes = [kurtosis(standard @ turn) for turn in turns]
    np.testing.assert_allclose(result.spaces["standardised"].kurtosis, kurtosis(x), rtol=1e-4)
    # The deviations of the first look stand for those of all rows.
    np.testing.assert_allclose(result.spaces["standardised"].rotated_kurtosis, of_axes, atol=0.05)
    assert result.fields["rotated_kurtosis"] == pytest.approx(np.mean(of_axes), abs=0.01)
    raw = result.spaces["raw"]
    np.testing.assert_allclose(raw.sparseness, 1 - np.abs(x).mean(axis=0) ** 2 / (x**2).mean(axis=0), atol=1e-5)
    turned = (x.astype(np.float64) @ turns[1])[:, : powers.RAW_AXES]
    np.testing.assert_allclose(raw.rotated_kurtosis[1], kurtosis(turned), atol=1e-4)
    sparse = 1 - np.abs(turned).mean(axis=0) ** 2 / (turned**2).mean(axis=0)
    np.testing.assert_allclose(raw.rotated_sparseness[1], sparse, atol=1e-5)


def test_a_whitened_network_is_rotated_after_zca_of_its_correlations():
    mix = np.eye(UNITS) + generator(2, "mix").standard_normal((UNITS, UNITS)) / 10
    x = laplace(rows=4000) @ mix.astype(np.float32)
    centred = (x - x.mean(axis=0)) / x.std(axis=0)
    values, vectors = np.linalg.eigh(np.corrcoef(x.T))
    white = centred @ (vectors / np.sqrt(values)) @ vectors.T
    result = privilege_of(x, draws=1, whiten=True).spaces["whitened"]
    np.testing.assert_allclose(result.kurtosis, kurtosis(white), atol=2e-3)
    turned = white @ powers.rotation(UNITS, 0, 0)
    np.testing.assert_allclose(result.rotated_kurtosis[0], kurtosis(turned), atol=2e-3)


def test_gaussian_units_have_none_and_intervals_over_networks_hold_zero_in_95_of_100():
    """100 experiments of five networks each, in axes of any kind; at least 88 hold 0, but for a chance of 0.4 %."""
    held = 0
    for experiment in range(100):
        rng = generator(experiment, "gauss")
        mixes = rng.standard_normal((5, 8, 8))
        scores = [privilege_of(rng.standard_normal((300, 8)) @ mix, draws=2).scores["privilege"] for mix in mixes]
        low, high = over_sample(scores).interval()
        held += low <= 0 <= high
    assert held >= 88


def test_large_layers_share_a_matrix_and_every_rotation_is_orthogonal(monkeypatch):
    monkeypatch.setattr(powers, "BASES", UNITS**2)
    turns = [powers.rotation(UNITS, 0, draw) for draw in range(3)]
    for turn in turns:
        np.testing.assert_allclose(turn @ turn.T, np.eye(UNITS), atol=1e-5)
    np.testing.assert_allclose(np.sort(np.abs(turns[0]), axis=0), np.sort(np.abs(turns[1]), axis=0))
    assert np.abs(np.mean(turns[0] * turns[1])) < 0.01
    assert privilege_of(laplace()).scores["privilege"] == pytest.approx(LAPLACE, abs=0.1)


@pytest.mark.parametrize("kept", [0, 1 << 24])
def test_not_a_bit_depends_on_chunks_or_on_kept_rotations(monkeypatch, kept):
    arrays = {"h": laplace(rows=5000) + 1, "conv": laplace(rows=600).reshape(50, 3, 4, UNITS)}
    whole = list(layer_privileges(MemorySource("a.h5", arrays), draws=3))
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 5000)
    monkeypatch.setattr(powers, "KEPT", kept)
    for a, b in zip(whole, layer_privileges(MemorySource("a.h5", arrays, stored=False), draws=3), strict=True):
        assert a.scores == b.scores and a.rows == b.rows
    assert [result.positions for result in whole] == ["1", "12"]


def test_scale_sign_and_means_of_units_do_not_matter():
    rng = generator(3, "scale")
    x = laplace(rows=2000)
    moved = x * rng.choice([-1, 1], UNITS) * np.exp(3 * rng.standard_normal(UNITS)) + 100 * rng.standard_normal(UNITS)
    plain, other = privilege_of(x), privilege_of(moved.astype(np.float64))
    assert other.fields["kurtosis"] == pytest.approx(plain.fields["kurtosis"], rel=1e-4)
    assert other.scores["privilege"] == pytest.approx(plain.scores["privilege"], abs=0.03)
    large = privilege_of(x.astype(np.float64) * 1e200)
    assert large.scores["privilege"] == pytest.approx(plain.scores["privilege"], abs=1e-4)


def test_constant_units_are_counted_and_left_out():
    x = laplace(rows=3000)
    x[:, [3, 7]] = 0.1, -5
    result = privilege_of(x, whiten=True)
    assert result.dead == 2
    assert np.isnan(result.spaces["standardised"].kurtosis[[3, 7]]).all()
    live = privilege_of(np.delete(x, [3, 7], axis=1), whiten=True)
    for name, value in live.scores.items():
        assert result.scores[name] == pytest.approx(value, abs=0.05), name


def test_a_unit_that_varies_only_where_nobody_looked_counts():
    x = laplace(rows=4096)
    x[:, 0] = 0
    x[200, 0] = 1e4
    assert privilege_of(x).dead == 0


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (np.ones((10, 3)), {}, r"^x: all 3 units are constant on these inputs: leave the layer out, or show"),
        (np.eye(9), {"whiten": True}, r"^x: 9 rows of 9 units that vary: `whiten` needs more rows than units"),
        (np.where(laplace(rows=50) > 5, np.nan, laplace(rows=50)), {}, r"^x: \d activations are NaN or infinite"),
    ],
)
def test_bad_input_is_one_line_with_the_number(x, options, message):
    with pytest.raises(BadInput, match=message):
        privilege_of(x, **options)
    reasons: dict[str, BadInput] = {}
    sources = MemorySource("a.h5", {"bad": np.asarray(x), "good": laplace(rows=60)[: 50 + len(x)]})
    assert [r.layer for r in layer_privileges(sources, failed=reasons.setdefault, **options)] == ["good"]
    assert list(reasons) == ["bad"]
