"""Memory and descriptors do not grow with epochs, checkpoints and pairs of networks."""

import gc
import resource
from pathlib import Path

import numpy as np
import pytest

from basiscli.data import load
from basiscli.experiments import training_loop
from tests.helpers.command_line import done

# What the memory may grow by, in bytes: less than a kilobyte for each array that is read or written.
GROWTH = 8 << 20
SMALL = ("--hidden", "8,6", "--batch-size", 32, "--augment", "none", "--seeds", 2)


@pytest.fixture
def images(tmp_path) -> Path:
    """A data set of 96 digits."""
    digits = load("digits")
    parts = {"train": digits.train, "test": digits.test}
    arrays = {f"{name}/images": part.images[:96] for name, part in parts.items()}
    np.savez(tmp_path / "small.npz", **arrays, **{f"{name}/labels": part.labels[:96] for name, part in parts.items()})
    return tmp_path / "small.npz"


def usage() -> tuple[int, int]:
    """Return the memory of this process and the number of its open files."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize(), len(list(Path("/proc/self/fd").iterdir()))


def assert_flat(used: list[tuple[int, int]]) -> None:
    """After the first quarter, in which caches fill, nothing grows."""
    (memory, files), (memory_at_end, files_at_end) = used[len(used) // 4], used[-1]
    assert memory_at_end - memory < GROWTH
    assert files_at_end == files


@pytest.mark.slow
def test_three_hundred_epochs_with_a_checkpoint_each(images, tmp_path, monkeypatch):
    used = []
    save = training_loop.Folder.checkpoint

    def saved(folder, run):
        save(folder, run)
        if run.epoch % 10 == 0:
            used.append(usage())

    monkeypatch.setattr(training_loop, "CHECKPOINT_SECONDS", 0)
    monkeypatch.setattr(training_loop.Folder, "checkpoint", saved)
    done("train", "--dataset", images, *SMALL, "--epochs", 300, "--out", tmp_path / "networks")
    assert len(used) == 29
    assert_flat(used)


@pytest.mark.slow
def test_two_hundred_pairs(images, tmp_path):
    pair = [record["path"] for record in done("train", "--dataset", images, *SMALL, "--out", tmp_path).records]
    used = []
    for k in range(200):
        done("correlate", *pair) if k % 2 else done("interpolate", *pair, "--points", 3, "--match", "none")
        if k % 10 == 0:
            used.append(usage())
    assert_flat(used)
