"""The benchmark of a card: what it reckons, that a rehearsal does all of it, that without a card it claims nothing."""

import argparse
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from basiscli.device import placement
from basiscli.nn import models
from tests.benchmarks import gpu
from tests.benchmarks.card import peer, tasks
from tests.benchmarks.card.report import read, report

MLP, RESNET = tasks.REHEARSED


@pytest.mark.skipif(placement.trouble() is None, reason="this machine has a card")
def test_without_a_card_nothing_is_measured(tmp_path):
    done = subprocess.run([sys.executable, gpu.__file__, "--out", tmp_path], capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout.startswith("# No card: a card is needed, and there is none: ")
    assert [record["part"] for record in read(tmp_path / "records.jsonl")] == ["look", "parts"]


@pytest.mark.slow
def test_a_rehearsal_does_every_part(tmp_path):
    """With the fake GPU, and without the packages that a machine with a card may lack."""
    pytest.importorskip("torch", exc_type=ImportError)
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, gpu.__file__, "--out", tmp_path, "--rehearse"], capture_output=True, text=True, cwd=tmp_path
    )
    files = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert done.returncode == 0, done.stderr + files["log.txt"]
    assert len(files) <= 8 and files["report.md"].strip() == done.stdout.strip()
    records = read(tmp_path / "records.jsonl")
    ended = {record["name"]: record["ended"] for record in records if record["part"] == "parts"}
    assert ended == dict.fromkeys(gpu.PARTS, "well"), files["log.txt"]
    assert not [record for record in records if "failed" in record]
    assert "wrong: none" in done.stdout and "layers add up to" in done.stdout and " passed" in files["log.txt"]
    assert time.monotonic() - begun < 180


def options_of(folder: Path) -> argparse.Namespace:
    return argparse.Namespace(out=folder, rehearse=True, parts="", part=None, after=None)


def test_a_part_that_hangs_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "__file__", str(tmp_path / "hangs.py"))
    (tmp_path / "hangs.py").write_text("import time; print('begun', flush=True); time.sleep(60)")
    monkeypatch.setitem(gpu.PARTS, "layers", 3)
    begun = time.monotonic()
    assert gpu.run("layers", options_of(tmp_path), {}, begun + 60) == "out of time"
    assert time.monotonic() - begun < 30 and "begun" in (tmp_path / "log.txt").read_text()
    assert gpu.run("layers", options_of(tmp_path), {}, begun) == "out of time"


def test_a_kernel_that_takes_the_card_with_it_is_left_behind(tmp_path, monkeypatch):
    calls = []

    def process(name, after, *_):
        calls.append(after)
        with (tmp_path / "records.jsonl").open("a") as file:
            file.write(
                '{"part": "selftest", "kernel": "gelu", "precision": "tf32", "ok": false, "failed": "lost"}\n{"half'
            )
        return gpu.LOST if len(calls) == 1 else 0

    monkeypatch.setattr(gpu, "process", process)
    assert gpu.run("selftest-tf32", options_of(tmp_path), {}, time.monotonic() + 60) == "with exit code 0, 1 faults"
    assert calls == [None, "gelu"]
    assert "gelu (tf32: lost)" in "\n".join(report(read(tmp_path / "records.jsonl")))


def test_a_table_that_fails_is_said(tmp_path):
    (tmp_path / "records.jsonl").write_text('{"no": "part"}\n')
    assert gpu.table(tmp_path / "records.jsonl").startswith("No table: KeyError")


def test_the_page_of_benchmarks_has_these_floors():
    page = (gpu.ROOT / "docs/benchmarks.md").read_text()
    assert "\n".join(tasks.floors()) in page


def test_operations_of_a_step():
    """Of three maps forward and weight gradient, and the input gradient of all but the first."""
    network = models.mlp((4, 5, 1), 3, [7, 6])
    assert tasks.operations_of(network) == 2 * tasks.BATCH * (2 * 20 * 7 + 3 * 7 * 6 + 3 * 6 * 3)


def test_bytes_of_a_step():
    network = models.mlp((4, 5, 1), 3, [7])
    activations = 3 * (20 + 7) + 3 * 7 + 5 * 7 + 3 * (7 + 3) + 3 * 3
    assert tasks.bytes_of(network) == 4 * (tasks.BATCH * activations + 8 * (20 * 7 + 7 + 7 * 3 + 3))


@pytest.mark.parametrize("task", [RESNET, MLP], ids=lambda task: task.name)
def test_the_peer_is_the_same_network(task):
    torch = pytest.importorskip("torch", exc_type=ImportError)
    module = peer.module_of(torch, task)
    trained = sum(p.numel() for p in module.parameters() if p.requires_grad)
    assert trained == sum(int(np.prod(task.network.weights[path].shape)) for path in task.network.trained)
    assert module(torch.zeros(2, task.shape[2], *task.shape[:2])).shape == (2, tasks.CLASSES)
