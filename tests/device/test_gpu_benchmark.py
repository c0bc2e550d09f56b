"""The benchmark of a card: what it reckons, that its measuring runs, and that without a card it claims nothing."""

import subprocess
import sys

import numpy as np
import pytest

from basiscli.device import placement
from basiscli.nn import models
from tests.benchmarks import gpu
from tests.emulation import fake

SMALL = gpu.Task("small", {"model": "resnet", "depth": 8, "width": 1 / 8}, 2, 1, (8, 8, 3))
PERCEPTRON = gpu.Task("perceptron", {"model": "mlp", "hidden": [9]}, 2, 1, (5, 5, 1))


@pytest.mark.skipif(placement.trouble() is None, reason="this machine has a card")
def test_without_a_card_nothing_is_measured():
    done = subprocess.run([sys.executable, gpu.__file__], capture_output=True, text=True)
    assert done.returncode == 1 and "a card is needed" in done.stderr and "Nothing was measured" in done.stderr
    assert all(task.name in done.stdout for task in gpu.TASKS)


def test_the_page_of_benchmarks_has_these_floors():
    page = (gpu.ROOT / "docs/benchmarks.md").read_text()
    assert "\n".join(gpu.floors()) in page


def test_operations_of_a_step():
    """Of three maps forward and weight gradient, and the input gradient of all but the first."""
    network = models.mlp((4, 5, 1), 3, [7, 6])
    assert gpu.operations_of(network) == 2 * gpu.BATCH * (2 * 20 * 7 + 3 * 7 * 6 + 3 * 6 * 3)


def test_bytes_of_a_step():
    network = models.mlp((4, 5, 1), 3, [7])
    activations = 3 * (20 + 7) + 3 * 7 + 5 * 7 + 3 * (7 + 3) + 3 * 3
    assert gpu.bytes_of(network) == 4 * (gpu.BATCH * activations + 8 * (20 * 7 + 7 + 7 * 3 + 3))


def test_our_side_runs(monkeypatch):
    monkeypatch.setattr(gpu, "BATCH", 4)
    with fake.installed():
        assert gpu.ours_of(SMALL, "float32", 0, steps=2) > 0
        assert "GFLOP/s" in gpu.moments(0, (300, 7))[0]


@pytest.mark.parametrize("task", [SMALL, PERCEPTRON], ids=lambda task: task.name)
def test_the_peer_is_the_same_network(task, monkeypatch):
    torch = pytest.importorskip("torch", exc_type=ImportError)
    monkeypatch.setattr(gpu, "BATCH", 4)
    module = gpu._module(torch, task)
    trained = sum(p.numel() for p in module.parameters() if p.requires_grad)
    assert trained == sum(int(np.prod(task.network.weights[path].shape)) for path in task.network.trained)
    assert module(torch.zeros(2, task.shape[2], *task.shape[:2])).shape == (2, gpu.CLASSES)
    assert gpu._pytorch(torch, task, "float32", 0, "cpu", compiled=False) > 0
