"""A walk through the suite that touches every dependency; `.ci/run` repeats it on other versions of them.

It imports nothing else from tests/ and reads no file of the checkout, so that it runs anywhere (`-m quick`).
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.quick


def basiscli(folder: Path, *arguments: object) -> str:
    """Run `basiscli ARGUMENTS` in a process of its own, assert that it succeeds, and return what it printed."""
    command = [sys.executable, "-m", "basiscli", *map(str, arguments)]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder in which two networks are trained. Not to be changed."""
    folder = tmp_path_factory.mktemp("smoke")
    basiscli(folder, "train", "--seeds", 2, "--epochs", 2, "--width", 16, "--out", "nets")
    return folder


def test_it_is_the_installed_package():
    """Whoever says which package is meant (BASISCLI_TESTED) gets that and not a checkout in the working directory."""
    import basiscli

    assert os.environ.get("BASISCLI_TESTED", "") in basiscli.__file__


def test_networks_are_trained_and_correlated(folder):
    lines = basiscli(folder, "correlate", "nets/seed0.h5", "nets/seed1.h5", "--null", "rotated", "--draws", 2)
    records = [json.loads(line) for line in lines.splitlines()]
    assert records and all(-1 <= record["matched_held_out"] <= 1 for record in records)


def test_a_permuted_copy_is_found_and_drawn(folder, tmp_path):
    copy = tmp_path / "copy.h5"
    basiscli(folder, "transform", "nets/seed0.h5", "--permute", 1, "--out", copy)
    lines = basiscli(folder, "correlate", "nets/seed0.h5", copy, "--plot", tmp_path / "pair.png", "--format", "table")
    assert "matched" in lines and (tmp_path / "pair.png").stat().st_size > 1000
    (record, *_) = map(json.loads, basiscli(folder, "match", "nets/seed0.h5", copy).splitlines())
    assert record["correlation_after"] == pytest.approx(1, abs=1e-3)


def test_what_lies_where_is_shown(folder):
    assert "digits" in basiscli(folder, "data", "list", "--format", "table")
    assert json.loads(basiscli(folder, "show", "nets/seed0.h5"))["kind"] == "network"
    assert "numba" in basiscli(folder, "doctor")


def test_compiled_kernels_agree_with_the_reference():
    from basiscli.kernels import cpu, reference

    rng = np.random.default_rng(0)
    x, w, b = (rng.standard_normal(shape).astype(np.float32) for shape in ((2, 5, 7), (2, 7, 3), (2, 3)))
    expected = reference.dense(*(values.astype(np.float64) for values in (x, w, b)))
    np.testing.assert_allclose(cpu.dense(x, w, b), expected, rtol=1e-4, atol=1e-5)
