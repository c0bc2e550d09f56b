"""Steps on the workers of a Dask scheduler: processes of their own, one of which is killed."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tests.helpers.command_line import call
from tests.helpers.waiting import wait_for

pytest.importorskip("distributed")

PLAN = """\
[train]
dataset = "digits"
seeds = 2
epochs = 15
batch_size = 256
[correlate]
widths = [8, 16]
draws = 2
zeros = false
[resources]
train = { GPU = 1 }
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[tuple[str, list[subprocess.Popen]]]:
    """The address of a scheduler on the loopback interface, and its two workers."""
    folder = tmp_path_factory.mktemp("dask")
    started = []

    def start(module: str, *words: str) -> subprocess.Popen:
        log = (folder / f"{len(started)}.log").open("wb")
        command = [sys.executable, "-m", f"distributed.cli.{module}", *words]
        started.append(subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, start_new_session=True))
        return started[-1]

    start("dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", "address.json")
    wait_for((folder / "address.json").exists)
    address = wait_for(lambda: json.loads((folder / "address.json").read_text() or "{}").get("address"))
    options = ("--nthreads", "1", "--no-dashboard", "--resources", "GPU=1", "--no-nanny", "--host", "127.0.0.1")
    workers = [start("dask_worker", address, *options) for _ in range(2)]
    yield address, workers
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(30)


def test_a_study_survives_a_worker_killed_in_mid_step(cluster, tmp_path):
    address, workers = cluster
    (tmp_path / "plan.toml").write_text(PLAN)
    command = [sys.executable, "-m", "basiscli", "study", "plan.toml", "--out", "there", "--scheduler", address]
    study = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for((tmp_path / "there/networks/w8/free/seed1.h5").exists)  # saved after the first epoch
    state = tmp_path / "there/steps/train-w8-free.json"
    (killed,) = [worker for worker in workers if worker.pid == json.loads(state.read_text())["process"]]
    killed.kill()
    out, told = study.communicate(timeout=300)
    assert study.returncode == 0, told
    (other,) = [worker.pid for worker in workers if worker is not killed]
    assert json.loads(state.read_text())["process"] == other
    assert json.loads((tmp_path / "there/results.json").read_text())["failed"] == []
    here = call("study", tmp_path / "plan.toml", "--out", tmp_path / "here")
    assert here.code == 0, here.stderr
    first, second = (json.loads((tmp_path / f"{where}/results.json").read_text()) for where in ("here", "there"))
    assert first == second and out.splitlines() == here.stdout.splitlines()
    assert re.search(r"\[4/4\] \S+ \d+\.\d s", told)


def test_resources_that_no_worker_has_are_told(cluster):
    from basiscli.study import cluster as ours
    from basiscli.study.steps import Step

    found = [Step("small", ("train",), resources={"GPU": 1}), Step("large", ("train",), resources={"GPU": 8})]
    assert ours.unmet(cluster[0], found) == ["large"]


def test_an_address_where_nobody_is(tmp_path, monkeypatch):
    from basiscli.study import cluster as ours

    monkeypatch.setattr(ours, "SECONDS", 1)
    began = time.monotonic()
    (tmp_path / "plan.toml").write_text(PLAN)
    line = ("study", tmp_path / "plan.toml", "--out", tmp_path / "out", "--scheduler", "tcp://127.0.0.1:9")
    call(*line).refused("no Dask scheduler answers there")
    assert time.monotonic() - began < 20
