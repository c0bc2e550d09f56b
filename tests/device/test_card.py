"""What only a card can say; all of it is skipped where there is none (`pytest -m gpu` on a machine with one)."""

import os
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest

from basiscli.device import placement, selftest
from basiscli.training.run import Run
from tests.emulation import fake
from tests.helpers.device import NETWORKS, RECIPE, assert_alike, host, images, run_of

# tests/benchmarks/gpu.py --rehearse runs these on the fake GPU.
REHEARSAL = bool(os.environ.get("BASISCLI_REHEARSAL"))
TROUBLE = None if REHEARSAL else placement.trouble()
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(TROUBLE is not None, reason=f"needs a card: {TROUBLE}")]


@pytest.fixture(autouse=True, scope="module")
def card():
    with fake.installed() if REHEARSAL else nullcontext():
        yield


@pytest.fixture(params=[True, False], ids=["graphs", "no graphs"])
def captured(request, monkeypatch):
    """Steps are captured as graphs, or not."""
    from basiscli.device import captured as graphs

    if not request.param:
        monkeypatch.setattr(graphs._Step, "capture", lambda *_: None)


@pytest.mark.parametrize("precision", ["float32", "tf32", "bf16"])
def test_every_kernel(precision):
    with placement.using("cuda", precision):
        wrong = [record for record in selftest.check_kernels(precision, timed=False) if not record["ok"]]
    assert not wrong


@pytest.mark.parametrize("name", NETWORKS)
def test_training_is_that_of_the_reference_in_float64(name, captured):
    network, recipe = NETWORKS[name](), replace(RECIPE, epochs=3)
    ours = Run.start(network, recipe, images(), (0, 1), dtype=np.float64)
    start = {path: values.copy() for path, values in ours.arrays.items()}
    while not ours.finished:
        ours.train_epoch()
    with placement.using("cuda"):
        theirs = run_of(network, recipe)
        while not theirs.finished:
            theirs.train_epoch()
        assert_alike(host(theirs), ours.arrays, start, 2e-2)


@pytest.mark.parametrize("name", ["mlp", "resnet"])
def test_the_same_bits_twice(name):
    found = []
    for _ in range(2):
        with placement.using("cuda", "tf32"):
            run = run_of(NETWORKS[name](), replace(RECIPE, epochs=3))
            while not run.finished:
                run.train_epoch()
            found.append(host(run))
    for path, values in found[0].items():
        np.testing.assert_array_equal(found[1][path], values, err_msg=path)


def test_the_command_line(basiscli, tmp_path):
    pytest.importorskip("platformdirs", exc_type=ImportError)
    done = basiscli("train", "--seeds", 3, "--epochs", 2, "--device", "cuda", "--out", tmp_path)
    assert done.code == 0, done.stderr
    paths = [record["path"] for record in done.records]
    assert all(record["test_accuracy"] > 0.8 for record in done.records)
    ours, theirs = (basiscli("correlate", *paths, "--device", place).records for place in ("cpu", "cuda"))
    for a, b in zip(ours, theirs, strict=True):
        assert b["matched"] == pytest.approx(a["matched"], abs=1e-4)
