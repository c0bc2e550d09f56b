"""Functions of arrays: the numbers of the command line, planted answers, and what is refused."""

import subprocess
import sys

import h5py
import matplotlib.figure
import numpy as np
import pytest

import basiscli
from basiscli.analysis.chunks import CHUNK_SAMPLES
from basiscli.analysis.pairs import compare_pairs
from basiscli.analysis.passes import Reading, layer_moments
from tests.helpers.command_line import done
from tests.helpers.features import haar, relu_features
from tests.helpers.memory import MemorySource

ARRAYS = {"x": relu_features(0, rows=300), "y": relu_features(1, rows=300, units=9)}


def record_of(folder, arrays: dict[str, np.ndarray], *options: object) -> list[dict]:
    """What `basiscli correlate` says of arrays, a file each."""
    for name, array in arrays.items():
        with h5py.File(folder / f"{name}.h5", "w") as file:
            file["layer"] = array
    return done("correlate", *(folder / f"{name}.h5" for name in arrays), *options).records


def scores_of(record: dict, scores: dict) -> dict:
    return {name: record[name] for name in scores}


@pytest.mark.parametrize("null", ["rotated", "shuffled"])
def test_the_numbers_are_those_of_the_command_line(tmp_path, null):
    (record,) = record_of(tmp_path, ARRAYS, "--null", null, "--draws", 12, "--seed", 3)
    found = basiscli.correlate(*ARRAYS.values(), null=null, draws=12, seed=3)
    assert scores_of(record, found.scores) == found.scores
    assert (record["units_a"], record["dead_b"], record["samples"]) == (found.units[0], found.dead[1], found.samples)
    assert found.matched_held_out - found.null == pytest.approx(found.excess)
    assert found.draws.shape == (12,) and found.draws.mean() == pytest.approx(found.null)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_wide_layers_give_the_numbers_of_the_command_line(tmp_path, processes):
    """From 100 units on the command line spreads the draws over processes."""
    wide = {"x": relu_features(0, units=130), "y": relu_features(1, units=130)}
    (record,) = record_of(tmp_path, wide, "--null", "rotated", "--draws", 10)
    found = basiscli.correlate(*wide.values(), draws=10, processes=processes)
    assert scores_of(record, found.scores) == found.scores


def test_dropping_dead_units_and_positions_are_those_of_the_command_line(tmp_path):
    rng = np.random.default_rng(0)
    maps = {name: rng.standard_normal((80, 2, 3, 5)) for name in ("x", "y")}
    maps["x"][..., 1] = 7
    options = ("--dead", "drop", "--positions", 4)
    (record,) = record_of(tmp_path, maps, *options)
    found = basiscli.correlate(maps["x"], maps["y"], null=None, dead="drop", positions=4)
    assert scores_of(record, found.scores) == found.scores
    assert found.dead == (1, 0) and found.permutation[1] == -1
    assert (found.null, found.excess, found.ceiling, found.share) == (None,) * 4


def test_pairs_and_intervals_are_those_of_the_command_line(tmp_path):
    arrays = {f"n{k}": relu_features(k, rows=200, units=7) for k in range(4)}
    options = ("--null", "rotated", "--draws", 5, "--intervals")
    *pairs, mean = record_of(tmp_path, arrays, *options)
    found = basiscli.pairwise(list(arrays.values()), draws=5)
    assert [scores_of(record, pair.scores) for record, pair in zip(pairs, found.pairs.values(), strict=True)] == [
        pair.scores for pair in found.pairs.values()
    ]
    assert scores_of(mean, found.scores) == found.scores
    assert found.interval("matched") == (mean["matched_low"], mean["matched_high"])
    assert found.matrix("matched")[2, 1] == found.pairs[1, 2].matched
    assert np.isnan(found.matrix("matched").diagonal()).all()


@pytest.mark.parametrize("name", ["cka", "cca", "svcca", "pwcca", "procrustes", "soft_matching"])
def test_similarities_are_those_of_the_command_line(tmp_path, name):
    (record,) = record_of(tmp_path, ARRAYS, "--similarity", name.replace("_", "-"))
    assert getattr(basiscli, name)(*ARRAYS.values()) == record[name]
    if name == "cka":
        assert basiscli.cka(*ARRAYS.values(), debiased=True) == record["cka_debiased"]


def test_too_few_samples_for_canonical_correlations_are_undefined():
    assert basiscli.cca(ARRAYS["x"][:15], ARRAYS["y"][:15]) is None


def test_ids_of_images_split_the_halves_as_shifted_copies_do():
    """Nine copies of an image, in order, are what the split test-shifts of a network holds."""
    x, y = (array[:270] for array in ARRAYS.values())
    (moments,) = layer_moments([MemorySource("x", {"": x}, 9), MemorySource("y", {"": y}, 9)], Reading(0))
    (expected,) = compare_pairs(moments)
    for ids in (np.arange(270) // 9, np.repeat([f"image {k:02}" for k in range(30)], 9)):
        assert basiscli.correlate(x, y, null=None, groups=ids).matched_held_out == expected.scores.matched_held_out


def test_copies_of_one_image_never_stand_in_both_halves():
    """Pure noise, every sample five times: a partner that fits the noise fits its copies, unless groups are known."""
    rng = np.random.default_rng(0)
    x, y = (np.repeat(rng.standard_normal((40, 30)), 5, axis=0) for _ in range(2))
    leaking = basiscli.correlate(x, y, null=None).matched_held_out
    held_out = basiscli.correlate(x, y, null=None, groups=np.arange(200) // 5).matched_held_out
    assert leaking > 0.2
    assert abs(held_out) < 0.1


def test_a_planted_permutation_and_a_rotation():
    x = ARRAYS["x"]
    order = np.random.default_rng(9).permutation(12)
    permuted, rotated = basiscli.correlate(x, x[:, order]), basiscli.correlate(x, x @ haar(12, 1))
    np.testing.assert_array_equal(order[permuted.permutation], np.arange(12))
    assert permuted.matched_held_out == pytest.approx(1, abs=1e-5)
    assert (rotated.matched_held_out - rotated.null) / (rotated.ceiling - rotated.null) == rotated.share
    assert permuted.excess > 0.3 and abs(rotated.share) < 0.3 and permuted.share == pytest.approx(1, abs=1e-3)
    assert permuted.ceiling == pytest.approx(1, abs=1e-3) and rotated.ceiling == pytest.approx(1, abs=0.02)
    assert abs(rotated.excess) < 0.15


def test_anything_that_becomes_an_array_is_taken():
    torch = pytest.importorskip("torch")
    x, y = (array.astype(np.float32) for array in ARRAYS.values())
    expected = basiscli.correlate(x, y, null=None).scores
    tensors = [torch.tensor(x, requires_grad=True) * 1, torch.tensor(y)]
    assert basiscli.correlate(*tensors, null=None).scores == expected
    assert basiscli.correlate(x.tolist(), y, null=None).scores == expected
    half = torch.tensor(x).bfloat16()
    assert basiscli.correlate(half, half.float(), null=None).matched == pytest.approx(1)


class Recorded:
    """An array that can only be read piece by piece."""

    def __init__(self, values: np.ndarray) -> None:
        self.values, self.shape, self.reads = values, values.shape, []

    def __getitem__(self, rows: slice) -> np.ndarray:
        self.reads.append(len(self.values[rows]))
        return self.values[rows]

    def __array__(self, *_, **__) -> np.ndarray:
        raise AssertionError("was held whole")


def test_an_hdf5_data_set_is_read_in_chunks(tmp_path):
    arrays = {name: np.tile(array, (70, 1)).astype(np.float32) for name, array in ARRAYS.items()}
    expected = basiscli.correlate(*arrays.values(), null=None).scores
    recorded = [Recorded(array) for array in arrays.values()]
    assert basiscli.correlate(*recorded, null=None).scores == expected
    assert max(recorded[0].reads) <= CHUNK_SAMPLES < len(arrays["x"])
    with h5py.File(tmp_path / "a.h5", "w") as file:
        x, y = (file.create_dataset(name, data=array) for name, array in arrays.items())
        assert basiscli.correlate(x, y, null=None).scores == expected


X, Y = ARRAYS.values()
BAD = {
    "y holds": (X, np.full((300, 4), "a")),
    "y is 'a.h5'": (X, "a.h5"),
    "x is no array": ([[1, 2], [3]], Y),
    "x has the shape (300,)": (X[:, 0], Y),
    "y has 200 samples, x has 300": (X, Y[:200]),
    "y has the shape (300, 2, 3)": (X, np.zeros((300, 2, 3))),
    "x is empty": (X[:0], Y[:0]),
    "y is empty": (X, Y[:, :0]),
    "x has 1 sample": (X[:1], Y[:1]),
    "x holds complex": (X * 1j, Y),
    "x holds object": (X.astype(object), Y),
    "y: 2 activations are NaN": (X, np.where((np.arange(300) < 2)[:, None] & (np.arange(9) == 1), np.nan, Y)),
    "y: 1 activations are NaN": (X, np.where((np.arange(300) < 1)[:, None] & (np.arange(9) == 1), np.inf, Y)),
}


@pytest.mark.parametrize("said", BAD)
@pytest.mark.parametrize("function", ["correlate", "cka"])
def test_bad_arrays_are_named_in_one_line(said, function):
    with pytest.raises(ValueError) as caught:
        getattr(basiscli, function)(*BAD[said])
    assert isinstance(caught.value, basiscli.BadInput)
    assert str(caught.value).startswith(said) and "\n" not in str(caught.value) and "--" not in str(caught.value)


@pytest.mark.parametrize(
    "said, options",
    [
        ("`null` is 'turned'", {"null": "turned"}),
        ("`draws` is 1", {"draws": 1}),
        ("`draws` is 2.5", {"draws": 2.5}),
        ("`seed` is -1", {"seed": -1}),
        ("`dead` is 'maybe'", {"dead": "maybe"}),
        ("`positions` is 0", {"positions": 0}),
        ("`processes` is 0", {"processes": 0}),
        ("`names` is 'ab'", {"names": "ab"}),
        ("`groups` has the shape (3,)", {"groups": [0, 1, 2]}),
        ("`groups` has one id", {"groups": np.zeros(300)}),
    ],
)
def test_bad_parameters_are_named(said, options):
    with pytest.raises(basiscli.BadInput, match="^" + said.replace("(", r"\(").replace(")", r"\)")):
        basiscli.correlate(X, Y, **options)


def test_bad_lists_of_arrays_are_named():
    with pytest.raises(basiscli.BadInput, match="`arrays` holds 1: give two or more"):
        basiscli.pairwise([X])
    with pytest.raises(basiscli.BadInput, match=r"^arrays\[2\] has 200 samples, arrays\[0\] has 300"):
        basiscli.pairwise([X, X, X[:200]])
    with pytest.raises(basiscli.BadInput, match="'nothing'"):
        basiscli.pairwise([X, X], null=None).matrix("nothing")


def test_results_show_as_tables_and_figures():
    one, many = basiscli.correlate(X, Y, draws=5, names=("a<b", "c")), basiscli.pairwise([X, Y, X], draws=5)
    assert "a<b and c" in repr(one) and "a&lt;b and c" in one._repr_html_() and "<table>" in one._repr_html_()
    assert [row["score"] for row in one.table()][:2] == ["matched", "matched held out"]
    assert many.table()[-1]["x"] == "3 networks" and many.table()[-1]["low"] is not None
    for result in (one, many):
        figure = result.plot()
        assert isinstance(figure, matplotlib.figure.Figure)
        assert figure._repr_png_().startswith(b"\x89PNG"), "a notebook shows the figure"


def test_names_cannot_bring_html_into_a_notebook():
    assert "<b>" not in basiscli.correlate(X, Y, null=None, names=("<b>", "y"))._repr_html_()


def test_little_is_imported():
    """`import basiscli` costs nothing; functions of arrays need neither numba nor matplotlib nor h5py."""
    code = (
        "import sys, basiscli; before = set(sys.modules); import numpy\n"
        "basiscli.correlate(numpy.eye(9), numpy.eye(9), draws=2)\n"
        "assert 'numpy' not in before, 'numpy'\n"
        "assert not {'numba', 'matplotlib', 'h5py', 'click'} & set(sys.modules), set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_channels_first_and_last_give_the_same_numbers(caplog):
    last = relu_features(0, 60, 150).reshape(60, 5, 5, 6)
    other = relu_features(1, 60, 175).reshape(60, 5, 5, 7)
    expected = basiscli.correlate(last, other, null=None)
    assert not caplog.records
    first = [np.moveaxis(x, -1, 1) for x in (last, other)]
    found = basiscli.correlate(*first, null=None)
    assert len(caplog.records) == 2 and "read as (samples, channels, ...)" in caplog.records[0].message
    told = basiscli.correlate(*first, null=None, channels="first")
    assert len(caplog.records) == 2
    assert found.scores == told.scores == expected.scores
    assert basiscli.cka(*first, channels="first") == basiscli.cka(last, other)
    with pytest.raises(basiscli.BadInput, match="`channels` is 'middle'"):
        basiscli.cka(last, other, channels="middle")


def test_a_cube_is_read_channels_last_with_a_note(caplog):
    x, y = (np.random.default_rng(k).random((20, 4, 4, 4)) for k in range(2))
    basiscli.correlate(x, y, null=None)
    assert "no shape tells" in caplog.records[0].message
    caplog.clear()
    assert basiscli.correlate(x, np.random.default_rng(2).random((20, 5, 4, 4)), null=None).units == (4, 5)
    assert "read as (samples, channels, ...)" in caplog.records[0].message
