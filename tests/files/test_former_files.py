"""Files that the version before the wings wrote are read, shown, correlated and matched.

`before-the-wings/` was written at commit f72748a:

    basiscli train --hidden 4,3 --epochs 4 --batch-size 16 --seeds 1 --activations --out .
    basiscli train --hidden 4,3 --epochs 4 --batch-size 16 --seeds 1-1 --no-activations --out .
    basiscli match seed0.h5 seed1.h5 --by activations --out match.h5
"""

from pathlib import Path

import numpy as np
import pytest

from basiscli.files.networks import load
from basiscli.nn.graph import forward
from tests.helpers.command_line import done

FOLDER = Path(__file__).parent / "before-the-wings"
SEED0, SEED1, MATCH = (FOLDER / name for name in ("seed0.h5", "seed1.h5", "match.h5"))
# What `basiscli correlate seed0.h5 seed1.h5` printed then, but for hidden1's held-out score: it was 0.435 when a unit
# that was silent on one half of the images was left out (docs/metrics.md).
CORRELATIONS = {
    "hidden1": {"identity": -0.0698062711778267, "matched": 0.3198901364115969, "matched_held_out": 0.3223075412692795},
    "hidden2": {
        "identity": 0.11338914158016582,
        "matched": 0.23397420266771904,
        "matched_held_out": 0.2338275057002875,
    },
}


def test_a_network_is_read():
    loaded = load(SEED0)
    assert loaded.file.seed == 0 and loaded.file.status == "done"
    assert loaded.network.architecture["hidden"] == [4, 3]
    images = np.random.default_rng(0).standard_normal((1, 5, 8, 8, 1)).astype(np.float32)
    assert forward(loaded.network, loaded.arrays, images)[0].shape == (1, 5, 10)


@pytest.mark.parametrize("path", [SEED0, SEED1, MATCH], ids=lambda path: path.name)
def test_a_file_is_shown(path):
    (record,) = done("show", path).records
    assert record["kind"] == ("results" if path == MATCH else "network")
    assert ("activations/test/hidden1" in record["arrays"]) == (path == SEED0)


def test_networks_are_correlated_as_before():
    for record in done("correlate", SEED0, SEED1).records:
        expected = CORRELATIONS[record["layer"]]
        assert {field: record[field] for field in expected} == pytest.approx(expected, abs=1e-4)


def test_stored_activations_are_those_that_the_network_gives(tmp_path):
    done("record", SEED0, "--layer", "hidden1", "--split", "test", "--out", tmp_path / "again.h5")
    records = done("correlate", SEED0, tmp_path / "again.h5", "--layer", "hidden1").records
    assert [record["identity"] for record in records] == pytest.approx([1], abs=1e-6)


def test_a_permutation_file_is_used(tmp_path, monkeypatch):
    monkeypatch.chdir(FOLDER)  # it names the networks that it was made for
    used = done("match", SEED0.name, SEED1.name, "--by", MATCH.name, "--apply", tmp_path / "matched.h5")
    found = done("match", SEED0.name, SEED1.name, "--by", "activations")
    assert used.stderr.splitlines() == [
        "basiscli: .: holds files of an older version, which have no digests: damage may pass unnoticed"
    ]
    for ours, theirs in zip(used.records, found.records, strict=True):
        assert ours["moved"] == theirs["moved"]
        assert ours["objective_after"] == pytest.approx(theirs["objective_after"], abs=1e-5)


def test_the_files_are_small():
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 100_000
