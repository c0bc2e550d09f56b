"""`correlate --across`: a layer is found again under another name, in another width and beside other layers."""

import h5py
import numpy as np
import pytest

from basiscli.analysis import passes
from basiscli.analysis.assess import CorrelationRequest
from basiscli.errors import BadInput
from basiscli.experiments.across import across_files
from tests.helpers.features import relu_features


@pytest.fixture
def planted(tmp_path):
    """Layer `two` of A is `module.late` of B in another order of units, with noise; other layers are their own."""
    rng = np.random.default_rng(0)
    two = relu_features(2, 300, 12)
    late = two[:, rng.permutation(12)] + 0.1 * rng.standard_normal((300, 12))
    contents = {
        "a.h5": {"one": relu_features(1, 300, 10), "two": two, "three": relu_features(3, 300, 14)},
        "b.h5": {"module.early": relu_features(4, 300, 8), "module.late": late},
    }
    for name, layers in contents.items():
        with h5py.File(tmp_path / name, "w", track_order=True) as file:
            for layer, values in layers.items():
                file[layer] = values
    return [str(tmp_path / name) for name in contents]


def excess(records: list[dict]) -> dict[tuple[str, str], float]:
    return {(one["layer_a"], one["layer_b"]): one["standardised_rotated_held_out_excess"] for one in records}


def test_a_permuted_copy_under_another_name_is_found(planted):
    records = list(across_files(planted, CorrelationRequest(draws=10)))
    assert [(one["layer_a"], one["layer_b"]) for one in records] == [
        (a, f"module.{b}") for a in ("one", "two", "three") for b in ("early", "late")
    ]
    found = excess(records)
    assert found.pop(("two", "module.late")) > 0.3 > 2 * max(found.values())
    (copy,) = (one for one in records if (one["layer_a"], one["layer_b"]) == ("two", "module.late"))
    assert copy["matched_held_out"] > 0.95 and copy["cka"] > 0.9
    assert (records[0]["units_a"], records[0]["units_b"]) == (10, 8)


def test_one_pass_unless_memory_is_short_and_the_same_numbers(planted, monkeypatch):
    monkeypatch.setattr(passes, "SCORING_TABLES", 0)
    monkeypatch.setattr("basiscli.device.memory.resident", lambda: 0)
    monkeypatch.setattr("basiscli.analysis.blocks.TILE_UNITS", 14)
    monkeypatch.setattr("basiscli.analysis.blocks.CHUNKS", 0)
    counted = []
    one_pass = passes._one_pass
    monkeypatch.setattr(passes, "_one_pass", lambda *arguments: counted.append(1) or one_pass(*arguments))
    expected = list(across_files(planted, CorrelationRequest(draws=3)))
    assert len(counted) == 1
    assert list(across_files(planted, CorrelationRequest(draws=3), memory=200_000)) == expected
    assert len(counted) > 2


def test_a_layer_that_cannot_be_compared_leaves_the_others(planted):
    with h5py.File(planted[0], "a") as file:
        file["one"][7, 3] = np.nan
    records = []
    with pytest.raises(BadInput, match=r"a.h5: layer one: 1 activations are NaN"):
        records.extend(across_files(planted, CorrelationRequest(draws=3)))
    results = across_files(planted, CorrelationRequest(draws=3))
    seen = []
    with pytest.raises(BadInput):
        seen.extend(next(results) for _ in range(5))
    assert {one["layer_a"] for one in seen} == {"two", "three"}


def test_convolutions_of_several_sizes_are_compared_by_their_means(planted, caplog, tmp_path):
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file["conv"] = np.random.default_rng(0).random((300, 4, 4, 6))
        file["dense"] = relu_features(5, 300, 6)
    records = list(across_files([planted[0], str(tmp_path / "c.h5")], CorrelationRequest(draws=3)))
    assert len(records) == 6
    assert "compared by its mean over positions" in caplog.text


def test_the_command_its_table_and_its_figure(basiscli, planted, tmp_path):
    plot = tmp_path / "across.png"
    done = basiscli(
        "correlate", *planted, "--across", "--draws", 3, "--rename", "module.*=*", "--plot", plot, "--format", "table"
    )
    assert done.code == 0 and plot.exists()
    assert "two: most like late" in done.stdout
    basiscli("correlate", planted[0], "--across").refused("two files", code=2)
    basiscli("correlate", *planted, "--across", "--out", tmp_path / "o.h5").refused("--out", code=2)


def test_renamed_layers_are_paired(basiscli, planted):
    pairs = basiscli("correlate", *planted, "--rename", "module.late=two").records
    assert [one["layer"] for one in pairs] == ["two"]
    basiscli("correlate", *planted, "--rename", "module.*=x").refused("b.h5", "--rename", "one name, x")
    basiscli("correlate", *planted, "--rename", "a*b*=c").refused("OLD=NEW", code=2)
