"""The benchmark of training steps runs, and ends on its own."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_benchmark_of_mlps_prints_a_row_for_each_count_of_seeds_and_one_for_the_command():
    for peer in ("torch", "jax"):
        pytest.importorskip(peer, exc_type=ImportError)
    words = ("--seconds", "0.1", "--rounds", "1", "--cases", "digits")
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.mlp", *words], cwd=ROOT, capture_output=True, text=True, timeout=500
    )
    assert not done.returncode, done.stderr
    head, _, *rows = [line.split(" | ") for line in done.stdout.splitlines()]
    assert len(rows) == 3 and all(len(row) == len(head) for row in rows)
    assert all(float(row[5].strip("*")) > 0 for row in rows)
