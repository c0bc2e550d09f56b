"""Grids of training options: cells, their steps, and contrasts of planted cells."""

import json
from pathlib import Path

import pytest

from basiscli.cli.planning import parse
from basiscli.errors import BadInput
from basiscli.study import comparison
from tests.helpers.planted import pair_records

FACTORS = {"optimizer": ["sgd", "adamw"], "activation": ["relu", "tanh"]}
# The planted share of each cell, and what its records say otherwise.
SHARES = {("sgd", "relu"): 0.3, ("sgd", "tanh"): 0.2, ("adamw", "relu"): 0.15, ("adamw", "tanh"): 0.15}


def planted(folder: Path, **cells: list[dict]) -> list:
    """The steps of a grid, with records of cells: those of SHARES, or others by the label of the cell."""
    (folder / "records").mkdir(exist_ok=True)
    steps = comparison.steps_of(FACTORS, ["--seeds", "5"], {})
    for step in steps:
        cell = step.about["cell"]
        share = SHARES[tuple(cell.values())]
        records = pair_records({"hidden1": share, "hidden2": share}, privilege=share, accuracy=1 - share)
        records = cells.get(comparison.label(cell).replace("-", "_"), records)
        (folder / step.records).write_text("".join(json.dumps(record) + "\n" for record in records))
    return steps


def test_a_cell_is_a_step_that_trains_and_measures_all_its_networks():
    steps = comparison.steps_of(FACTORS, ["--seeds", "5"], {"GPU": 1})
    assert [step.name for step in steps] == [
        "compare-sgd-relu", "compare-sgd-tanh", "compare-adamw-relu", "compare-adamw-tanh",
    ]  # fmt: skip
    assert steps[1].command == (
        "basiscli evolve --no-barrier --seeds 5 --optimizer sgd --activation tanh --keep '' --pairs "
        "--out compared/sgd-tanh > records/compare-sgd-tanh.jsonl"
    )
    assert steps[1].folder == "compared/sgd-tanh" and steps[1].resources == {"GPU": 1}
    parse("evolve", steps[1].words[1:])
    with pytest.raises(BadInput, match="two cells are called 1_2"):
        comparison.steps_of({"augment": ["1+2", "1,2"]}, [], {})


@pytest.mark.parametrize(
    "factors, told",
    [
        ({"optimiser": ["sgd", "adamw"]}, "optimiser: no option of training that can vary; such as optimizer"),
        ({"seeds": ["1", "2"]}, "seeds: no option of training that can vary"),
        ({"draws": ["1", "2"]}, "draws: no option of training"),
        ({"optimizer": ["sgd", "adam"]}, "'adam'"),
        ({"optimizer": ["sgd", "sgd"]}, "optimizer: names a level twice"),
        ({"optimizer": ["sgd"]}, "a factor with two levels or more"),
    ],
)
def test_what_is_no_grid_is_refused(factors, told):
    with pytest.raises(ValueError, match=told):
        comparison.require_factors(factors, parse)


def test_contrasts_are_those_of_the_plant(tmp_path):
    records = list(comparison.compare(tmp_path, planted(tmp_path)))
    cells = {r["name"]: r for r in records if not r["factor"] and r["layer"] == "all"}
    assert {name: round(cell["share"], 9) for name, cell in cells.items()} == {
        " ".join(cell): share for cell, share in SHARES.items()
    }
    rises = {r["name"]: r for r in records if r["factor"] and r["layer"] == "hidden2"}
    assert {name: round(one["share_rise"], 6) for name, one in rises.items()} == {
        "adamw - sgd": -0.1, "adamw - sgd (relu)": -0.15, "adamw - sgd (tanh)": -0.05,
        "tanh - relu": -0.05, "tanh - relu (sgd)": -0.1, "tanh - relu (adamw)": 0,
    }  # fmt: skip
    whole = rises["adamw - sgd"]
    assert (whole["optimizer"], whole["activation"], whole["over"]) == ("adamw", None, "sgd")
    assert whole["test_accuracy_rise"] == pytest.approx(0.1) and whole["privilege_rise"] == pytest.approx(-0.1)
    assert whole["privilege_rise_low"] == pytest.approx(-0.1) and whole["networks"] == 5  # paired by seed
    assert len({tuple(record) for record in records}) == 1
    optimizer, activation = comparison.sentences(records)
    assert optimizer == (
        "optimizer adamw instead of sgd: share -0.10 (-0.10 to -0.10), privilege -0.10 (-0.10 to -0.10), test accuracy "
        "+0.10 (0.10 to 0.10)"
    )
    assert activation.startswith("activation tanh instead of relu: share -0.05")


def test_a_cell_that_diverged_is_counted_and_left_out(tmp_path):
    lost = [dict.fromkeys(pair_records({"hidden1": 0})[0]) | {"epoch": 10, "networks": 1, "diverged": 4}]
    part = pair_records({"hidden1": 0.1, "hidden2": 0.1}, accuracy=0.7, seeds=(0, 1, 3))
    part = [record | {"diverged": 2} for record in part]
    steps = planted(tmp_path, adamw_tanh=lost, adamw_relu=part)
    records = list(comparison.compare(tmp_path, steps))
    (cell,) = [r for r in records if r["name"] == "adamw tanh"]
    assert (cell["layer"], cell["networks"], cell["diverged"], cell["share"]) == (None, 1, 4, None)
    contrasts = {r["name"]: r for r in records if r["factor"] and r["layer"] == "all"}
    assert list(contrasts) == ["adamw - sgd", "adamw - sgd (relu)", "tanh - relu", "tanh - relu (sgd)"]
    assert contrasts["adamw - sgd"]["networks"] == 3  # the seeds that both cells have
    said = list(comparison.sentences(records))
    assert said[0] == "adamw relu: 2 networks diverged in training; they are left out"
    assert said[1] == "adamw tanh: 4 networks diverged in training; the cell is left out"


def test_a_step_without_records_is_left_out_and_damaged_ones_are_refused(tmp_path):
    steps = planted(tmp_path)
    (tmp_path / steps[0].records).unlink()
    assert "sgd relu" not in {record["name"] for record in comparison.compare(tmp_path, steps)}
    (tmp_path / steps[0].records).write_text("{")
    with pytest.raises(BadInput, match=r"compare-sgd-relu\.jsonl: is damaged"):
        list(comparison.compare(tmp_path, steps))
