"""Memory and descriptors do not grow with epochs, checkpoints and pairs of networks."""

import gc
import resource
from pathlib import Path

import pytest

from basiscli.experiments import training_loop
from tests.helpers.command_line import done

# What the memory may grow by, in bytes: less than a kilobyte for each array that is read or written.
GROWTH = 8 << 20


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
def test_three_hundred_epochs_with_a_checkpoint_each(tmp_path, monkeypatch):
    used = []
    save = training_loop.Folder.checkpoint

    def saved(folder, run):
        save(folder, run)
        used.append(usage())

    monkeypatch.setattr(training_loop, "CHECKPOINT_SECONDS", 0)
    monkeypatch.setattr(training_loop.Folder, "checkpoint", saved)
    done("train", "--seeds", 2, "--hidden", "32,32", "--epochs", 300, "--batch-size", 600, "--augment", "none",
         "--out", tmp_path)  # fmt: skip
    assert len(used) == 299
    assert_flat(used)


@pytest.mark.slow
def test_two_hundred_pairs(networks):
    used = []
    for k in range(200):
        done("correlate", *networks[:2]) if k % 2 else done("interpolate", *networks[:2], "--points", 3)
        used.append(usage())
    assert_flat(used)
