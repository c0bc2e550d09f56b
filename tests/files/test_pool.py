"""Many files: no more are open than the system allows, and memory stays within its bounds."""

import resource
import subprocess
import sys
import tracemalloc

import h5py
import numpy as np
import pytest

from basiscli.analysis import accumulator, blocks, passes
from basiscli.files import hdf5
from basiscli.files.pool import Pool
from tests.helpers.features import relu_features
from tests.helpers.memory import MemorySource

LIMITED = "import resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, ({n}, {n})); "
RUN = "from basiscli.cli.group import main; sys.argv[0] = 'basiscli'; main()"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("many")
    for k in range(24):
        with h5py.File(folder / f"{k:02d}.h5", "w") as file:
            file.create_dataset("h", data=relu_features(k, 60, 8), chunks=(60, 8))
            file["dense"] = relu_features(k, 60, 5)
    return folder


def test_a_pool_closes_the_file_that_was_used_longest_ago(folder):
    pool = Pool(most=2)
    first, second, third = (str(folder / f"0{k}.h5") for k in range(3))
    readers = [pool.reader(first), pool.reader(second)]
    assert pool.reader(first) is readers[0]
    pool.reader(third)
    assert pool.reader(first) is readers[0]
    assert pool.reader(second) is not readers[1]
    rows = pool.rows_of(third, hdf5.open_reader(third).members()["h"])
    np.testing.assert_array_equal(rows(10, 20), relu_features(2, 60, 8)[10:20])
    assert rows.held == 60 * 8 * relu_features(2, 1, 8).itemsize


def test_a_low_limit_of_open_files_changes_no_record(folder):
    command = ["correlate", str(folder), "--format", "json"]
    few, many = (
        subprocess.run(
            [sys.executable, "-c", LIMITED.format(n=n) + RUN, *command], capture_output=True, text=True, check=True
        )
        for n in (50, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    )
    assert few.stdout == many.stdout
    assert few.stdout.count("\n") == 2 * 24 * 23 / 2


def test_moments_stay_within_the_memory(monkeypatch):
    """16 networks of 128 units have 31 MB of moments."""
    monkeypatch.setattr("basiscli.device.memory.resident", lambda: 0)
    monkeypatch.setattr(passes, "SCORING_TABLES", 0)
    monkeypatch.setattr(blocks, "TILE_UNITS", 256)
    monkeypatch.setattr(accumulator, "ONE_THREAD", 10**6)
    monkeypatch.setattr(accumulator, "BLOCK_ROWS", 100)  # numpy counts rows that nobody writes, the system does not
    opened = [MemorySource(f"{k}.h5", {"h": relu_features(k, 100, 128)}) for k in range(16)]

    def peak(memory: int | None) -> float:
        tracemalloc.start()
        for _ in passes.layer_moments(opened, passes.Reading(0, memory=memory)):
            pass
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most / (1 << 20)

    assert peak(None) > 31
    assert peak(12 << 20) < 12
