"""What was measured of networks, from records of pairs: planted means, shares, rises and layers."""

from itertools import combinations

import numpy as np
import pytest

from basiscli.experiments.measured import ALL, OF_PAIRS, Measured, by_layer, told
from tests.helpers.planted import pair_records

SEEDS = (0, 1, 2, 3, 4)


def test_shares_are_of_means_and_networks_count_once():
    records = pair_records({"hidden1": 0.3}, privilege=0.5, accuracy=0.9)
    measured = Measured.of(records)
    assert measured.estimate("share").value == pytest.approx(0.3)
    assert measured.estimate("privilege").value == pytest.approx(0.5)
    accuracy = measured.estimate("test_accuracy")
    values = np.array([measured.networks["test_accuracy"][seed] for seed in SEEDS])
    assert (accuracy.value, accuracy.error, accuracy.freedom) == pytest.approx(
        (0.9, values.std(ddof=1) / np.sqrt(5), 4)
    )


def test_rises_are_paired_by_seed():
    """Networks of a seed share its luck: the difference is certain, whatever the spread over seeds."""
    one, other = (pair_records({"hidden1": share}, privilege=share, accuracy=share, spread=0.2) for share in (0.3, 0.2))
    rises = Measured.of(one).rises(Measured.of(other))
    for name in ("share", "privilege", "test_accuracy"):
        assert rises[f"{name}_rise"] == pytest.approx(0.1)
        assert rises[f"{name}_rise_high"] - rises[f"{name}_rise_low"] < 0.02
    wide = Measured.of(one).fields()
    assert wide["privilege_high"] - wide["privilege_low"] > 0.2
    assert set(Measured.of(one).rises(None).values()) == {None}


def test_a_network_that_one_condition_lacks_is_left_out_of_both():
    one, other = (pair_records({"hidden1": 0.3}, accuracy=accuracy) for accuracy in (0.9, 0.8))
    one = [record for record in one if 4 not in (record["seed_a"], record["seed_b"])]
    rise = Measured.of(one).rise("test_accuracy", Measured.of(other))
    assert rise.value == pytest.approx(0.1) and rise.freedom == 3


def test_layers_are_averaged_before_the_interval():
    """Two layers whose deviations are opposite: each has a wide interval, their mean has none to speak of."""
    records = pair_records({"hidden1": 0.3}, spread=0.1) + pair_records({"hidden2": 0.3}, spread=-0.1)
    layers = by_layer(records)
    assert list(layers) == ["hidden1", "hidden2", ALL]
    errors = [layers[name].estimate("privilege").error for name in layers]
    assert min(errors[:2]) > 0.02 and errors[2] < 1e-12


def test_a_value_that_is_missing_somewhere_has_no_mean():
    records = pair_records({"hidden1": 0.3})
    for record in records:
        record["barrier"] = None
        record["privilege_a" if record["seed_a"] == 0 else "dead_a"] = None
    measured = Measured.of(records)
    assert measured.estimate("barrier").value is None and measured.estimate("share").value == pytest.approx(0.3)
    fields = Measured.of([]).fields()
    assert set(fields.values()) == {None} and {*OF_PAIRS} < set(fields)
    assert len(list(combinations(SEEDS, 2))) == len(records)


def test_fields_in_words():
    record = {"x": 0.123, "x_low": 0.1, "x_high": 0.15, "y": 0.1, "y_low": None, "y_high": None, "z": None,
              "z_low": None, "z_high": None}  # fmt: skip
    assert told(record, "x") == "0.12 (0.10 to 0.15)" and told(record, "x", sign=True) == "+0.12 (0.10 to 0.15)"
    assert told(record, "y") == "0.10" and told(record, "z") == "undefined"
