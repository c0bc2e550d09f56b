"""`basiscli correlate` through its command line."""

import csv
import json
import subprocess
import sys
from contextlib import chdir
from pathlib import Path

import h5py
import numpy as np
import pytest

from basiscli.files.networks import DIVERGED, load_network, write_network
from basiscli.files.writer import writing
from tests.helpers.command_line import Outcome, call

FIELDS = [
    "a", "b", "layer", "units_a", "units_b", "dead_a", "dead_b", "samples", "identity", "matched", "matched_held_out",
    "semi_matched",
]  # fmt: skip


def basiscli(*arguments: object, stdin: str = "", folder: Path) -> Outcome:
    with chdir(folder):
        return call(*arguments, stdin=stdin)


def records(*arguments: object, **options) -> list[dict]:
    done = basiscli("correlate", *arguments, **options)
    assert done.code == 0, done.stderr
    return done.records


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """a.h5, its permuted copy b.h5 and c.h5 of another width in the second layer; d.h5 shares no layer."""
    folder = tmp_path_factory.mktemp("files")
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((200, 8))
    one, two = (np.maximum(inputs @ rng.standard_normal((8, 12)), 0).astype("f") for _ in range(2))
    two[:, 3] = 0
    order = rng.permutation(12)
    write(folder / "a.h5", {"one": one, "two": two})
    write(folder / "b.h5", {"one": one[:, order], "two": two[:, order]})
    write(folder / "c.h5", {"one": one + rng.standard_normal(one.shape), "two": two[:, :5]})
    write(folder / "d.h5", {"other": one})
    np.save(folder / "order.npy", order)
    return folder


def write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array


def test_records_of_a_planted_permutation(folder):
    one, two = records("a.h5", "b.h5", folder=folder)
    assert list(one) == list(two) == [*FIELDS, "positions"]
    assert (one["a"], one["b"], one["layer"], two["layer"]) == ("a.h5", "b.h5", "one", "two")
    assert (one["units_a"], one["samples"], two["dead_a"], two["dead_b"]) == (12, 200, 1, 1)
    assert one["matched"] == pytest.approx(1, abs=1e-5)
    assert one["matched_held_out"] == pytest.approx(1, abs=1e-5)
    assert two["matched"] == pytest.approx(11 / 12, abs=1e-5)
    (dropped,) = records("a.h5", "b.h5", "--layer", "two", "--dead", "drop", folder=folder)
    assert dropped["matched"] == pytest.approx(1, abs=1e-5)
    assert dropped["matched_held_out"] == pytest.approx(1, abs=1e-5)


def test_all_pairs_and_unequal_widths(folder):
    found = records("a.h5", "b.h5", "c.h5", "--layer", "t*", folder=folder)
    assert [(one["a"], one["b"]) for one in found] == [("a.h5", "b.h5"), ("a.h5", "c.h5"), ("b.h5", "c.h5")]
    assert (found[1]["units_a"], found[1]["units_b"], found[1]["identity"]) == (12, 5, None)


def test_paths_and_records_from_stdin(folder):
    expected = records("a.h5", "b.h5", folder=folder)
    assert records("-", stdin="a.h5\nb.h5\n", folder=folder) == expected
    lines = "".join(json.dumps({"path": path, "status": "done"}) + "\n" for path in ("a.h5", "b.h5"))
    assert records("-", stdin=lines, folder=folder) == expected


def test_a_pipe_that_closes_early(folder):
    done = subprocess.run(
        f"printf 'a.h5\\nb.h5\\n' | {sys.executable} -m basiscli correlate - | head -n 1",
        shell=True, capture_output=True, text=True, cwd=folder, timeout=60,
    )  # fmt: skip
    assert json.loads(done.stdout)["layer"] == "one"
    assert "Traceback" not in done.stderr


def test_csv_and_table(folder):
    rows = list(csv.DictReader(basiscli("correlate", "a.h5", "b.h5", "--format", "csv", folder=folder).stdout.split()))
    assert list(rows[0]) == [*FIELDS, "positions"]
    assert float(rows[0]["matched"]) == pytest.approx(1, abs=1e-5)
    table = basiscli("correlate", "a.h5", "b.h5", "--format", "table", folder=folder).stdout
    assert "1.0000" in table and "two" in table


def test_out_keeps_matrices_and_permutations(folder, tmp_path):
    out = tmp_path / "out.h5"
    records("a.h5", "b.h5", "--out", out, folder=folder)
    order = np.load(folder / "order.npy")
    with h5py.File(out) as file:
        assert json.loads(file.attrs["files"]) == ["a.h5", "b.h5"]
        np.testing.assert_array_equal(order[file["layers/one/0-1/permutation"][:]], np.arange(12))
        with h5py.File(folder / "a.h5") as a, h5py.File(folder / "b.h5") as b:
            expected = np.corrcoef(a["one"][:], b["one"][:], rowvar=False)[:12, 12:]
        np.testing.assert_allclose(file["layers/one/0-1/correlation"][:], expected, atol=1e-6)
    basiscli("correlate", "a.h5", "b.h5", "--out", out, folder=folder).refused("out.h5", "--force")
    records("a.h5", "b.h5", "--out", out, "--force", folder=folder)


def test_plot(folder, tmp_path):
    plot = tmp_path / "plot.png"
    records("a.h5", "c.h5", "b.h5", "--plot", plot, folder=folder)
    assert plot.read_bytes().startswith(b"\x89PNG")
    basiscli("correlate", "a.h5", "b.h5", "--plot", plot, folder=folder).refused("plot.png", "--force")
    assert [path.name for path in tmp_path.iterdir()] == ["plot.png"]


def test_the_seed_draws_the_halves(folder):
    held_out = [records("a.h5", "c.h5", "--seed", seed, folder=folder)[0]["matched_held_out"] for seed in (0, 0, 1)]
    assert held_out[0] == held_out[1] != held_out[2]


def test_a_layer_that_not_all_files_have_is_said(folder, tmp_path):
    write(tmp_path / "e.h5", {"two": np.random.default_rng(1).standard_normal((200, 4))})
    done = basiscli("correlate", "a.h5", "b.h5", tmp_path / "e.h5", folder=folder)
    assert len(done.stdout.splitlines()) == 4
    assert "2 of 3 files have layer one" in done.stderr


def test_bad_input_leaves_nothing_behind(folder, tmp_path):
    bad = np.random.default_rng(0).standard_normal((200, 12))
    bad[[1, 2], 3] = np.nan
    write(tmp_path / "nan.h5", {"one": bad})
    write(tmp_path / "short.h5", {"one": bad[:150]})
    out = tmp_path / "out.h5"
    for other, words in (
        ("nan.h5", ("nan.h5", "layer one", "2 activations")),
        ("short.h5", ("short.h5", "150", "200")),
        ("missing.h5", ("missing.h5",)),
    ):
        done = basiscli("correlate", folder / "a.h5", other, "--out", out, folder=tmp_path)
        done.refused(*words)
    basiscli("correlate", "a.h5", "d.h5", folder=folder).refused("no layer in common", "a.h5: one, two")
    basiscli("correlate", "a.h5", "b.h5", "--layer", "x*", folder=folder).refused("a.h5", "x*")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["nan.h5", "short.h5"]


def test_wrong_command_lines(folder):
    basiscli("correlate", "a.h5", folder=folder).refused("two files", code=2)
    basiscli("correlate", "a.h5", "b.h5", "--dead", "maybe", folder=folder).refused("maybe", code=2)


def test_little_is_imported(folder):
    """Numba, matplotlib and rich cost seconds; correlating stored activations needs none of them."""
    code = (
        "import sys; sys.argv = ['basiscli', 'correlate', 'a.h5', 'b.h5']; from basiscli.cli import group\n"
        "try: group.main()\n"
        "finally: print(*({'numba', 'matplotlib', 'rich'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, timeout=60)
    assert len(done.stdout.splitlines()) == 2
    assert done.stderr.strip() == ""


def test_nulls_similarities_and_intervals(folder):
    found = records(
        "a.h5", "b.h5", "c.h5", "--layer", "one", "--null", "all", "--draws", "20", "--similarity", "all",
        "--intervals", "--extrapolate", folder=folder,
    )  # fmt: skip
    assert [one["pairs"] for one in found] == [1, 1, 1, 3]
    assert all(list(one) == list(found[0]) for one in found), "CSV needs the same fields in every record"
    copy, mean = found[0], found[-1]
    assert list(copy)[: len(FIELDS)] == FIELDS
    assert copy["rotated_beaten"] == copy["shuffled_beaten"] == 1
    assert copy["cka"] == pytest.approx(1, abs=1e-4)
    assert copy["aligned_held_out"] == pytest.approx(1, abs=1e-3)
    assert copy["matched_low"] is None
    assert (mean["a"], mean["b"], mean["units_a"]) == ("3 networks", "3 pairs", 12)
    assert mean["matched_low"] < mean["matched"] < mean["matched_high"]
    for name in ("share", "standardised_aligned_held_out", "cka_debiased", "extrapolated_held_out"):
        assert mean[f"{name}_low"] < mean[name] < mean[f"{name}_high"] and mean[f"{name}_error"] > 0, name


def test_similarities_are_explained_and_refused_where_undefined(folder):
    done = basiscli(
        "correlate", "a.h5", "b.h5", "--layer", "one", "--samples", "20", "--similarity", "cca,cka", folder=folder
    )
    assert json.loads(done.stdout)["cca"] is None
    assert "any invertible linear map" in done.stderr and "Kornblith" in done.stderr
    assert "20 rows are too few for cca of 12 and 12 units" in done.stderr


def test_a_single_file_beside_rotations_of_itself(folder):
    one, _ = records("a.h5", "--null", "rotated", "--draws", "10", folder=folder)
    assert one["a"] == one["b"] == "a.h5"
    assert one["rotated_excess"] > 0.1
    assert {"privilege_a", "privilege_z_a"} <= set(one)


def test_positions_of_a_convolution(tmp_path):
    maps = np.random.default_rng(0).standard_normal((60, 3, 3, 5))
    for name in ("a.h5", "b.h5"):
        write(tmp_path / name, {"conv": maps})
    for positions, words in (("all", "9"), ("mean", "mean of 9"), ("4", "4 of 9")):
        (one,) = records("a.h5", "b.h5", "--positions", positions, folder=tmp_path)
        assert (one["positions"], one["samples"]) == (words, 60)
    basiscli("correlate", "a.h5", "b.h5", "--positions", "0", folder=tmp_path).refused("'0'", code=2)


def test_a_figure_over_layers(folder, tmp_path):
    plot = tmp_path / "layers.png"
    records("a.h5", "b.h5", "c.h5", "--null", "rotated", "--draws", "5", "--plot", plot, folder=folder)
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_wrong_names(folder):
    basiscli("correlate", "a.h5", "b.h5", "--null", "turned", folder=folder).refused("turned", code=2)
    basiscli("correlate", "a.h5", "b.h5", "--similarity", "cka,x", folder=folder).refused("'x'", code=2)
    basiscli("correlate", "a.h5", "b.h5", "--intervals", folder=folder).refused("three files", code=2)


def test_networks_that_diverged_are_left_out(tmp_path):
    options = ("--dataset", "digits", "--hidden", "8", "--epochs", "1", "--seeds", "3", "--out", tmp_path)
    assert call("train", *options).code == 0
    networks = [tmp_path / f"seed{seed}.h5" for seed in range(3)]
    for path, code in zip(networks, (0, 1), strict=False):
        network = load_network(path)
        network.status = DIVERGED
        with writing(path, force=True) as file:
            write_network(file, network)
        done = call("correlate", *networks)
        assert f"{path}: diverged in training, left out" in done.stderr
        assert done.code == code
    assert "of 3 networks all but 1 diverged" in done.stderr
    alone = call("correlate", networks[0], "--null", "rotated")
    assert alone.code == 1 and f"{networks[0]}: diverged in training" in alone.stderr
