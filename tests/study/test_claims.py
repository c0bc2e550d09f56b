"""The verdicts on planted studies: each claim true, false, mixed, undecided, and with each control failed."""

import pytest

from basiscli.analysis.statistics import Estimate
from basiscli.study import claims
from basiscli.study.rules import c1, c2, c3, c4
from basiscli.study.verdict import (
    MISSING,
    MIXED,
    NOT_APPLICABLE,
    REFUTED,
    SHOWN,
    UNDECIDED,
    UNINFORMATIVE,
    Condition,
    Verdict,
    told,
)
from tests.helpers import planted
from tests.helpers.command_line import call


@pytest.mark.parametrize(
    "verdict, records, words",
    [
        (SHOWN, planted.rotations(), "after 40 epochs rho 0.333"),
        (REFUTED, planted.rotations(rho=(0.001, 0, 0.002)), "below 0.020"),
        (UNDECIDED, planted.rotations(longer=(0.0, 0.02, 0.0), half=0.02), "after 40 epochs rho"),
        # nine layers without a loss and one that loses 5 points
        (MIXED, planted.rotations((*[0] * 9, 0.5), [0] * 10, [0] * 10), "layers disagree: a rotation costs hidden10"),
        # a published row, MNIST width 512: no accuracy lost, a training loss that is certain
        (SHOWN, planted.rotations((0.3, 0.5, 0.7), points=0.0002), "after 10 epochs rho 0.500"),
        (MIXED, planted.rotations((0.013, 0.013, 0.013), half=0.002, linear_half=0.002), "certain, but small"),
        # linear networks lose as much, untrained networks lose as much: the loss is of the method
        (UNINFORMATIVE, planted.rotations(linear=(0.3, 0.3, 0.3)), "linear twins"),
        (UNINFORMATIVE, planted.rotations(linear_half=0.1), "linear twins"),
        (UNINFORMATIVE, planted.rotations(untrained=(0.3, 0.3, 0.3)), "untrained"),
    ],
)
def test_c1(verdict, records, words):
    found = c1.judge(records)
    assert found.verdict == verdict and words in found.because, found


@pytest.mark.parametrize(
    "records, words",
    [
        (planted.rotations(linear=None), "linear twins, 10 epochs"),
        (planted.rotations(untrained=None), "untrained networks"),
        (planted.rotations(longer=None), "retraining of 4 times as many epochs as 10"),
        ([], "rotations of trained networks"),
    ],
)
def test_c1_without_its_zeros_is_undecided(records, words):
    found = c1.judge(records)
    assert found.verdict == UNDECIDED and found.because.startswith(MISSING) and words in found.because


def test_c1_is_the_mean_over_layers_of_whole_rotations_at_the_widest_width():
    other = [{**r, "power": 0.5, "log_loss_ratios": [9] * 6} for r in planted.rotations()]
    narrow = [{**r, "width": 16, "log_loss_ratios": [9] * 6} for r in planted.rotations()]
    small = [{**r, "units": 15, "layer": "hidden9", "log_loss_ratios": [9] * 6} for r in planted.rotations()]
    found = c1.judge([*other, *narrow, *small, *planted.rotations(rho=(0.1, 0.2, 0.6))])
    assert found.effect.value == pytest.approx(0.3) and found.effect.interval()[0] == pytest.approx(0.29)


def test_linear_and_untrained_networks_do_not_show_c1():
    """Their own records in the place of those of the networks."""
    for losses in ((0.001, 0, 0.002), (0.01, 0, 0.01)):
        assert c1.judge(planted.rotations(rho=losses)).verdict in (REFUTED, UNDECIDED, MIXED)


WIDE = (256, "trained")


@pytest.mark.parametrize(
    "verdict, share, words",
    [
        (SHOWN, {}, "every layer"),
        (REFUTED, {WIDE: 0.95}, "every layer"),
        (UNDECIDED, {WIDE: 0.45, (256, "half-trained"): 0.45}, "with width"),  # it grows with width
        (UNDECIDED, {(256, "half-trained"): 0.15}, "second half of training"),  # and with training
        (MIXED, {WIDE: (0.2, 0.2, 0.98)}, "hidden3 nearer"),  # one layer is wholly shared
        (MIXED, {WIDE: (0.2, 0.2, 0.0)}, "hidden3 without"),
        (NOT_APPLICABLE, {WIDE: 0.0}, "no layer"),
        # linear networks, and untrained ones, under a null that is too low: the same share as their zeros
        (NOT_APPLICABLE, {WIDE: 0.04, (256, "half-trained"): 0.04, (256, "linear"): 0.04}, "no layer"),
        (NOT_APPLICABLE, {WIDE: 0.13, (256, "half-trained"): 0.13, (256, "untrained"): 0.13}, "no layer"),
        (SHOWN, {(256, "linear"): 0.04, (256, "untrained"): 0.13}, "every layer"),
        (UNINFORMATIVE, {(256, "linear"): 0.3}, "linear networks have a common basis"),
        (UNINFORMATIVE, {(256, "untrained"): 0.3}, "untrained networks have a common basis"),
    ],
)
def test_c2(verdict, share, words):
    found = c2.judge(planted.correlations(share))
    assert found.verdict == verdict and words in found.because, found


def test_c2_with_too_much_noise_or_no_room():
    assert c2.judge(planted.correlations({WIDE: 0.48}, noise=0.1)).verdict == UNDECIDED
    assert c2.judge(planted.correlations(null=0.75)).verdict == NOT_APPLICABLE
    assert c2.judge(planted.correlations({WIDE: 0.95}, null=0.1, ceiling=0.45)).verdict != REFUTED


@pytest.mark.parametrize(
    "gone, words", [((256, "half-trained"), "half"), ((256, "linear"), "linear"), ((256, "untrained"), "untrained")]
)
def test_c2_without_its_zeros_is_undecided(gone, words):
    found = c2.judge(planted.correlations({gone: None}))
    assert found.because.startswith(MISSING) and words in found.because


def test_c2_does_not_look_at_layers_under_16_units():
    small = [{**record, "layer": "small", "units_a": 12, "matched_held_out": 0.8} for record in planted.correlations()]
    assert c2.judge(small + planted.correlations()) == c2.judge(planted.correlations())


def test_c2_reads_pairs_not_the_means_over_them():
    means = [{**record, "pairs": 15, "matched_held_out": 9} for record in planted.correlations()]
    assert c2.judge(means + planted.correlations()) == c2.judge(planted.correlations())


def test_c2_of_real_networks_with_the_same_units(networks, tmp_path):
    """Networks that are one network with its units in other orders have one basis; turned, they have none in common."""
    for name, turn in (("permuted", "--permute"), ("turned", "--rotate")):
        paths = [tmp_path / f"{name}{seed}.h5" for seed in range(5)]
        for seed, path in enumerate(paths):
            done = call("transform", networks[0], turn, seed, "--out", path)
            assert done.code == 0, done.stderr
        line = ("correlate", *paths, "--null", "rotated", "--draws", 3, "--tap", "pre", "--split", "test-shifts")
        records = call(*line).records
        conditions = [{**r, "width": w, "condition": c} for w, c in planted.SHARES for r in records]
        zeros = [r for r in planted.correlations() if r["condition"] in ("linear", "untrained")]
        found = c2.judge([r for r in conditions if r["condition"] not in ("linear", "untrained")] + zeros)
        assert found.verdict == (REFUTED if name == "permuted" else NOT_APPLICABLE), found


@pytest.mark.parametrize(
    "space, axes, records",
    [
        (SHOWN, SHOWN, planted.frozen()),
        (SHOWN, REFUTED, planted.frozen(axes=(0.5, 0.0))),  # a rise of the space alone
        (REFUTED, REFUTED, planted.frozen(space=(0.5, 0), axes=(0.5, -0.1))),
        (UNDECIDED, UNDECIDED, planted.frozen(between=0.1)),  # donors differ
        (SHOWN, UNDECIDED, planted.frozen(axes=(0.008, 0.008), between=0.008)),  # 0.008 that may be nothing
        (SHOWN, MIXED, planted.frozen(axes=(0.01, 0.01), between=0.001)),  # certain, but small
    ],
)
def test_c3_has_two_verdicts(space, axes, records):
    found = c3.judge(records)
    assert [one.verdict for one in found] == [space, axes], found
    assert all("hidden3, 2 layers frozen, over 3 donors" in one.measure for one in found)


def test_c3_is_mixed_where_excess_and_share_disagree():
    apart = [{**r, "share_rise": -0.1 + r["share_rise"] / 100} if r["prefix"] else r for r in planted.frozen()]
    assert [one.verdict for one in c3.judge(apart)] == [SHOWN, MIXED]


@pytest.mark.parametrize(
    "records, words",
    [(planted.frozen(donors=2), "3 trained donors (2 there)"), (planted.frozen(untrained=False), "untrained donor")],
)
def test_c3_without_its_donors_is_undecided(records, words):
    assert all(one.because.startswith(MISSING) and words in one.because for one in c3.judge(records))


def test_c3_looks_at_the_first_layer_that_no_skip_feeds_in_the_widest_networks():
    other = planted.frozen(space=(0.5, 0.5))
    narrow = [{**record, "width": 16} for record in other]
    fed = [{**record, "layer": "sum", "fed_by_skip": True} for record in other]
    rows = c3.next_layers(narrow + fed + planted.frozen(), "trained")
    assert [{row["layer"] for row in rows[prefix]} for prefix in (1, 2)] == [{"hidden2"}, {"hidden3"}]
    assert [len(rows[prefix]) for prefix in rows] == [3, 3] and rows[2][1]["rise"] == pytest.approx(0.07)


STEADY, RISING = (0.45, 0.45, 0.45), (0.40, 0.50, 0.60)


@pytest.mark.parametrize(
    "verdict, records, words",
    [
        (SHOWN, planted.connected(), "rise of the correlation"),
        (SHOWN, planted.connected(correlation=RISING), "fall, equal correlation by a circle"),
        (REFUTED, planted.connected((-1, -1, -1)), "above -0.050"),  # no better with width
        (REFUTED, planted.connected(correlation=RISING, fewer=(-1.1, -1.1, -1.1)), "half of the fall"),
        (MIXED, planted.connected(fewer=(-1.1, -1.1, -1.1)), "half of the fall"),  # steady, and yet gone
        (MIXED, planted.connected((-1, -1.02, -1.04), half=0.001), "certain, but small"),
        (UNDECIDED, planted.connected(half=3), "slope of the loss barrier"),
        (UNDECIDED, planted.connected(accuracy=(0, 0, 0)), "slope of the accuracy barrier"),
        # the circle alone never refutes: it lifts the barriers of wide networks by itself
        (UNDECIDED, planted.connected(correlation=RISING, circle=(-1.1, -1.1, -1.1)), "by a circle"),
        # a correlation that rises from .40 to .60, with a control that undid nothing
        (UNDECIDED, planted.connected(correlation=RISING, reached=False), "control not applied"),
        (UNDECIDED, planted.connected(correlation=RISING, circle=None, fewer=None), "control not applied"),
        (UNDECIDED, planted.connected(excess=(0.05, 0.1, 0.15), circle=None, fewer=None), "control not applied"),
        # matched on the images as they are, correlated on shifted ones
        (UNINFORMATIVE, planted.connected(probe="test-shifts"), "correlated on test-shifts"),
    ],
)
def test_c4(verdict, records, words):
    found = c4.judge(records)
    assert found.verdict == verdict and words in found.because, found


def test_c4_says_of_a_control_that_did_nothing_that_it_was_not_applied():
    found = c4.judge(planted.connected(reached=False))
    assert set(found.controls.values()) == {"control not applied"}
    above = [{**r, "degraded_to": r["degraded_to"] and r["degraded_to"] + 0.03} for r in planted.connected()]
    assert set(c4.judge(above).controls.values()) == {"control not applied"}


def test_c4_names_layers_under_16_units():
    narrow = [{**r, "fewest_units": 8 if r["width"] == 16 else 64} for r in planted.connected()]
    assert c4.judge(narrow).beside["layers under 16 units"] == "the smallest has 8 at width 16"
    assert "layers under 16 units" not in c4.judge(planted.connected()).beside


def test_c4_needs_three_widths():
    found = c4.judge([r for r in planted.connected() if r["width"] < 256])
    assert found.because == f"{MISSING}: 3 widths, matched and unmatched (2 there)"


def test_c4_reads_test_images_and_the_corrected_condition():
    train = [{**record, "split": "train", "barrier_log_ratio": 9} for record in planted.connected()]
    corrected = [{**r, "correct": "reset-bn"} for r in planted.connected()]
    rows = c4.matched(train + corrected + planted.connected())
    assert [row["barrier_log_ratio"] for row in rows] == list(planted.FALL)
    assert c4.condition(rows[0]) == "matched by activations, reset-bn"


def test_fewer_than_five_networks_decide_nothing():
    for command, make in planted.TABLES.items():
        few = [{**record, "networks": 4} for record in make()]
        if command == "rotate":
            few = [{**record, "log_loss_ratios": record["log_loss_ratios"][:4]} for record in few]
        if command == "correlate":
            few = [r for r in few if "seed5" not in r["b"] and "seed4" not in r["a"] + r["b"]]
        verdicts = [one for one in claims.verdicts({command: few}) if claims.COMMANDS[one.claim] == command]
        assert {(one.verdict, one.because) for one in verdicts} == {(UNDECIDED, "4 networks; a verdict needs 5")}, (
            command
        )


def test_what_was_not_run_is_undecided():
    found = claims.verdicts({})
    assert [one.name for one in found] == ["C1", "C2", "C3 space", "C3 axes", "C4"]
    assert {one.verdict for one in found} == {UNDECIDED} and all(MISSING in one.because for one in found)


def test_no_width_takes_the_place_of_one_that_is_gone():
    tables = {command: make() for command, make in planted.TABLES.items()}
    found = {one.name: one for one in claims.verdicts(tables, {"correlate": ["correlate-w256"]})}
    assert (found["C2"].verdict, found["C2"].because) == (UNDECIDED, "records missing: correlate-w256")
    assert found["C1"].verdict == SHOWN


def test_verdicts_among_all():
    """Holm: the smallest p is taken times the number of verdicts; without a test p counts as 1."""
    given = [Verdict("C1", SHOWN, "", p=0.004), Verdict("C2", SHOWN, "", p=0.03), Verdict("C4", UNDECIDED, "")]
    found = claims.adjusted(given)
    assert [one.adjusted for one in found] == [SHOWN, UNDECIDED, UNDECIDED]
    assert [one.adjusted_p for one in found] == [pytest.approx(0.012), pytest.approx(0.06), None]
    certain = claims.verdicts({command: make() for command, make in planted.TABLES.items()})
    assert [one.adjusted for one in certain] == [SHOWN] * 5


def test_conditions():
    estimate = Estimate(0.5, 0.1, 1e9)
    assert Condition("x", estimate, 0.29).holds and not Condition("x", estimate, 0.29, count=2).holds
    assert Condition("x", estimate, 0.304).p == pytest.approx(0.05, abs=1e-3)
    assert Condition("x", estimate, 0.6).p == 1 and not Condition("x", Estimate(0.5), 0).holds
    assert str(Condition("x", estimate, 0.2, unit="%")) == "x 50.0 % (30.4 to 69.6) lies above 20.0 %"


def test_estimates_in_words():
    assert told(Estimate(0.0333, 0.005, 1e9), "points") == "3.3 points (2.4 to 4.3)"
    assert told(Estimate(-0.0001, 0.0001, 1e9)) == "0.000 (0.000 to 0.000)"
    assert told(Estimate(0.12345)) == "0.123 (no interval)" and told(None) == "unknown"
