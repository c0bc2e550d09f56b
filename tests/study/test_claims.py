"""The verdicts on planted studies: each claim true, false and undecided."""

import pytest

from basiscli.study import claims
from basiscli.study.claims import REFUTED, SHOWN, UNDECIDED, Estimate
from tests.helpers import planted
from tests.helpers.command_line import call


@pytest.mark.parametrize(
    "verdict, records",
    [
        (SHOWN, planted.rotations()),
        (REFUTED, planted.rotations(relu=(0.001, 0.002, 0), half=0.002)),  # a rotation costs nothing
        (REFUTED, planted.rotations(relu=(0.03, 0.03, 0.03), linear=(0.05, 0.05, 0.05))),  # linear networks lose more
        (UNDECIDED, planted.rotations(half=0.1)),  # too few networks
        (UNDECIDED, planted.rotations(linear=None)),  # no control
        (UNDECIDED, planted.rotations(linear=(0.03, 0.03, 0.03), half=0.02)),
    ],
)
def test_c1(verdict, records):
    found = claims.c1(records)
    assert (found.verdict, found.networks) == (verdict, planted.NETWORKS), found.because


def test_c1_is_the_mean_over_layers_of_whole_rotations():
    halves = [{**record, "power": 0.5, "penalty_accuracy": 9} for record in planted.rotations()]
    found = claims.c1(halves + planted.rotations(relu=(0.01, 0.02, 0.06)))
    assert found.effect.value == pytest.approx(0.03) and found.effect.low == pytest.approx(0.02)
    assert found.beside["training loss"].value == pytest.approx(0.06)


@pytest.mark.parametrize(
    "verdict, share",
    [(SHOWN, (0.1, 0.1, 0.3)), (SHOWN, (1, 1, 0.3)), (REFUTED, (0.1, 0.5, 0.95)), (UNDECIDED, (0.1, 0.1, 0.65))],
)
def test_c2_looks_at_the_widest_networks(verdict, share):
    found = claims.c2(planted.correlations(share))
    assert (found.verdict, found.networks) == (verdict, planted.NETWORKS), found.because
    assert found.effect.low < share[-1] < found.effect.high


def test_c2_reads_pairs_not_the_means_over_them():
    means = [{**record, "pairs": 15, "matched_held_out": 9} for record in planted.correlations()]
    assert claims.c2(means + planted.correlations()) == claims.c2(planted.correlations())


def test_c2_of_real_networks_with_the_same_units(networks, tmp_path):
    """Networks that are one network with its units in other orders have one basis; turned, they have none in common."""
    for name, turn in (("permuted", "--permute"), ("turned", "--rotate")):
        paths = [tmp_path / f"{name}{seed}.h5" for seed in range(3)]
        for seed, path in enumerate(paths):
            done = call("transform", networks[0], turn, seed, "--out", path)
            assert done.code == 0, done.stderr
        line = ("correlate", *paths, "--null", "rotated", "--draws", 3, "--tap", "pre", "--split", "test-shifts")
        found = claims.c2([{**record, "width": 24} for record in call(*line).records])
        assert found.verdict == (REFUTED if name == "permuted" else SHOWN), found


def test_c2_without_a_shared_space_is_undecided():
    records = [
        {**r, "standardised_aligned_held_out": r["standardised_rotated_held_out_mean"]} for r in planted.correlations()
    ]
    (verdict,) = [v for v in claims.verdicts({"correlate": records}) if v.claim == "C2"]
    assert verdict.verdict == UNDECIDED


@pytest.mark.parametrize(
    "verdict, records, words",
    [
        (SHOWN, planted.frozen(), "does not for certain"),
        (SHOWN, planted.frozen(excess=0.04), "rises, too"),
        (REFUTED, planted.frozen(rise=(0.5, 0)), "less than"),
        (REFUTED, planted.frozen(rise=(0.5, -0.1)), "less than"),
        (UNDECIDED, planted.frozen(half=0.1), "holds 0"),
    ],
)
def test_c3_looks_after_the_longest_prefix(verdict, records, words):
    found = claims.c3(records)
    assert found.verdict == verdict and words in found.because
    assert "hidden3, 2 layers frozen" in found.measure


def test_c3_looks_at_the_next_layer_of_the_widest_networks_with_a_trained_donor():
    other = planted.frozen(rise=(0.5, 0.5))
    narrow = [{**record, "width": 16} for record in other]
    initial = [{**record, "donor": "initial"} for record in other if record["prefix"]]
    rows = claims.rises(narrow + initial + planted.frozen() + initial)
    assert [(row["layer"], row["rise"]) for row in rows] == [("hidden2", 0.04), ("hidden3", 0.07)]


FALLING, FLAT, RISING = (1, 0.5, 0.1), (0.45, 0.45, 0.45), (0.4, 0.5, 0.6)


@pytest.mark.parametrize(
    "verdict, records",
    [
        (SHOWN, planted.connected(FALLING, FLAT)),
        (REFUTED, planted.connected((1, 1, 1.2), FLAT)),  # no better with width
        (UNDECIDED, planted.connected(FALLING, FLAT, half=2)),
        (UNDECIDED, planted.connected(FALLING, RISING)),  # both move
        (UNDECIDED, planted.connected(FALLING, (0.4, 0.42, 0.45))),
        (
            UNDECIDED,
            planted.connected(FALLING, RISING, degraded=(1, 0.8, 0.7), half=0.29),
        ),  # a third of the fall is left
        (SHOWN, planted.connected(FALLING, RISING, degraded=(1, 0.6, 0.3))),  # and without the correlation, too
        (REFUTED, planted.connected(FALLING, RISING, degraded=(1, 0.99, 0.995))),  # it was the correlation
    ],
)
def test_c4(verdict, records):
    found = claims.c4(records)
    assert found.verdict == verdict, found.because
    assert "from width 16 to 256" in found.measure


def test_c4_reads_test_images():
    train = [{**record, "split": "train", "barrier": 9} for record in planted.connected()]
    assert [row["barrier"] for row in claims.barriers(train + planted.connected())] == [1, 0.5, 0.1]


def test_c4_reads_the_corrected_condition():
    corrected = [{**r, "correct": "reset-bn", "barrier": r["barrier"] / 2} for r in planted.connected()]
    rows = claims.barriers(planted.connected() + corrected)
    assert [row["barrier"] for row in rows] == [0.5, 0.25, 0.05]
    assert rows[0]["condition"] == "matched by activations, reset-bn"


def test_what_was_not_run_is_undecided():
    assert [verdict.verdict for verdict in claims.verdicts({})] == [UNDECIDED] * 4
    free = [record for record in planted.frozen() if not record["prefix"]]
    assert claims.c3(free) is None and claims.c4(planted.connected()[:2]) is None


def test_differences_of_independent_estimates():
    found = Estimate(5, 2, 8, error=1.2, freedom=5).minus(Estimate(1, -3, 5, error=1.6, freedom=5))
    assert (found.value, found.error) == pytest.approx((4, 2)) and 5 < found.freedom < 10
    assert found.low < 0 < found.high and found.minus(Estimate(4, 4, 4, error=0, freedom=5)).value == 0
    assert not Estimate(1).above(0) and not Estimate(1).minus(found).known


def test_estimates_in_words():
    assert str(Estimate(0.0333, 0.02, 0.041, "points")) == "3.3 points (2.0 to 4.1)"
    assert str(Estimate(0.12345)) == "0.123 (no interval)"
