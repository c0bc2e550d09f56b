"""`basiscli correlate --units` and `--cycles`, and `basiscli.universality`."""

import h5py
import numpy as np
import pytest

import basiscli as library


@pytest.fixture(scope="module")
def arrays():
    """Three networks of ten units: the first four are shared, in other orders."""
    rng = np.random.default_rng(0)
    shared = rng.laplace(size=(500, 4))
    return [np.hstack([shared[:, rng.permutation(4)], rng.standard_normal((500, 6))]) for _ in range(3)]


@pytest.fixture(scope="module")
def files(arrays, tmp_path_factory):
    folder = tmp_path_factory.mktemp("arrays")
    paths = [folder / f"{k}.h5" for k in range(3)]
    for path, array in zip(paths, arrays, strict=True):
        with h5py.File(path, "w") as file:
            file["layer"] = array.astype("f4")
    return paths


def test_a_record_a_unit_with_the_numbers_of_the_library(basiscli, arrays, files):
    ran = basiscli("correlate", *files, "--units", "--draws", 20)
    assert ran.code == 0, ran.stderr
    result = library.universality(arrays, draws=20)
    records = ran.records
    assert [record["unit"] for record in records] == [*range(10)] * 3
    assert sum(record["universal"] for record in records) < 14
    for k, array in enumerate(arrays):
        of_file = records[10 * k : 10 * k + 10]
        np.testing.assert_allclose([r["universality"] for r in of_file], result.universality[k], atol=1e-4)
        np.testing.assert_allclose([r["excess"] for r in of_file], result.excess[k], atol=1e-4)
        np.testing.assert_allclose(result.universality[k] - result.null[k], result.excess[k])
        assert [r["universal"] for r in of_file] == result.universal[k].tolist() and result.universal[k][:4].all()
        assert [r["partners"][0] for r in of_file] == result.partners[k][0].tolist()
        assert of_file[0]["stability"] == 1 and of_file[0]["correlation"] > 0.99
        other = arrays[1 if k == 0 else 0]
        assert np.corrcoef(array[:, 0], other[:, of_file[0]["partners"][0]])[0, 1] > 0.99
    found = [row["universal"] for row in result.table()]
    assert (result.q[0][:4] < 0.05).all() and "universal" in repr(result) and "<table>" in result._repr_html_()
    words = basiscli("correlate", *files, "--units", "--draws", 20, "--format", "table").stdout
    assert f"{sum(found)} of 30 units universal, false discoveries 5 %" in " ".join(words.split())


def test_a_record_a_layer_of_cycles(basiscli, arrays, files):
    (record,) = basiscli("correlate", *files, "--cycles", "--draws", 20).records
    result = library.universality(arrays, draws=20)
    assert record["cycles"] == pytest.approx(result.cycles) and record["null"] == pytest.approx(result.cycles_null)
    assert record["cycles"] >= 0.4 > record["null"] and record["triples"] == 1 and record["cycles_low"] is None
    words = basiscli("correlate", *files, "--cycles", "--draws", 20, "--format", "table").stdout
    assert "layer: partners agree in" in words


def test_the_figure_shows_the_images_that_excite_units(basiscli, networks, files, tmp_path):
    plot = tmp_path / "units.png"
    ran = basiscli("correlate", *networks, "--units", "--draws", 5, "--layer", "hidden2", "--plot", plot)
    assert ran.code == 0 and plot.stat().st_size > 5000, ran.stderr
    basiscli("correlate", *files, "--units", "--plot", tmp_path / "no.png").refused("no network that runs on images")


def test_what_does_not_go_together_is_refused(basiscli, files):
    basiscli("correlate", files[0], "--units").refused("--units needs two files or more", code=2)
    basiscli("correlate", *files[:2], "--cycles").refused("--cycles needs three files or more", code=2)
    basiscli("correlate", *files, "--units", "--intervals").refused("--units gives records of its own", code=2)
    basiscli("correlate", *files, "--units", "--cycles").refused("records of its own", code=2)
    basiscli("correlate", *files, "--units", "--fdr", 0).refused("--fdr", code=2)
    with pytest.raises(library.BadInput, match="`rate` is 2: give a part from 0 to 1"):
        library.universality([np.eye(4), np.eye(4)], rate=2)
    with pytest.raises(library.BadInput, match="`arrays` holds 1: give two or more"):
        library.universality([np.eye(4)])
