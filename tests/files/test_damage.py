"""Damaged files: each gives exactly what the whole file gives, or one line; no other exception, no crash, no hang."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.helpers import damage
from tests.helpers.command_line import done

KINDS = ("network", "activations", "permutations", "results")


@pytest.fixture(scope="module")
def whole(networks, tmp_path_factory) -> dict[str, tuple[Path, Path]]:
    """A file of each kind, and a sibling of the same shapes."""
    folder = tmp_path_factory.mktemp("whole")
    files = {"network": networks[:2]}
    for kind in KINDS[1:]:
        files[kind] = [folder / f"{kind}{k}.h5" for k in (1, 2)]
    for k in (1, 2):
        done("record", networks[k], "--samples", 200, "--out", files["activations"][k - 1])
        done("match", networks[0], networks[k], "--out", files["permutations"][k - 1])
        done("correlate", networks[0], networks[k], "--out", files["results"][k - 1])
    return {kind: (one, two) for kind, (one, two) in files.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_changed_bytes_change_nothing_in_silence(whole, tmp_path, kind):
    path, sibling = whole[kind]
    content, other, expected = path.read_bytes(), sibling.read_bytes(), damage.outcome(path)
    assert expected is not None
    rng = np.random.default_rng(0)
    damaged = tmp_path / "damaged.h5"
    for trial in range(40):
        how, changed = damage.bytewise(rng, content, other)
        damaged.write_bytes(changed)
        assert damage.outcome(damaged) in (None, expected), f"trial {trial}: {how}"


@pytest.mark.parametrize("kind", KINDS)
def test_a_change_through_hdf5_is_refused(whole, tmp_path, kind):
    path, sibling = whole[kind]
    rng = np.random.default_rng(1)
    damaged = tmp_path / "damaged.h5"
    for trial in range(15):
        shutil.copy(path, damaged)
        how = damage.structured(rng, damaged, sibling)
        assert damage.outcome(damaged) is None, f"trial {trial}: {how}"


@pytest.mark.parametrize("kind", KINDS)
def test_a_strange_file_with_valid_digests_is_read_or_refused_with_one_line(whole, tmp_path, kind):
    """As a faulty or a hostile program may write it: no other exception, no hang."""
    path, sibling = whole[kind]
    rng = np.random.default_rng(2)
    damaged = tmp_path / "damaged.h5"
    for _ in range(20):
        shutil.copy(path, damaged)
        damage.structured(rng, damaged, sibling)
        damage.reseal(damaged)
        damage.outcome(damaged)
