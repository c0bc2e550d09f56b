"""Ctrl-C and SIGTERM: nothing half written stays, the exit code says which it was, a line says how to go on."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from basiscli.files.sink import Sink
from tests.helpers.command_line import call, done
from tests.helpers.waiting import wait_for

PLAN = '[train]\ndataset = "digits"\nseeds = 2\nepochs = 4000\n[correlate]\nwidths = [8]\nzeros = false\n'


class Stopping:
    """An open file that sends signals to this process while it is written, one a write."""

    def __init__(self, file, signals: list[int]) -> None:
        self.file, self.signals = file, signals

    def write(self, view) -> int:
        if self.signals:
            signal.raise_signal(self.signals.pop())
        return self.file.write(view)

    def __getattr__(self, name: str) -> object:
        return getattr(self.file, name)


def stop_in_writing(number: int, monkeypatch) -> None:
    """Send a signal to this process while it writes its first HDF5 file."""
    make, signals = Sink.__init__, [number]

    def interrupted(self, path):
        make(self, path)
        self._file = Stopping(self._file, signals)

    monkeypatch.setattr(Sink, "__init__", interrupted)


@pytest.mark.parametrize(
    "words",
    [
        "record A --samples 50 --out FILE",
        "correlate A B --layer hidden1 --samples 50 --out FILE",
        "match A B --samples 50 --out FILE",
        "merge A B --match none --correct none --out FILE",
        "transform A --permute 1 --out FILE",
    ],
)
def test_a_command_that_is_stopped_leaves_nothing(words, networks, tmp_path, monkeypatch):
    names = {"A": networks[0], "B": networks[1], "FILE": tmp_path / "out.h5"}
    for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        stop_in_writing(number, monkeypatch)
        outcome = call(*(names.get(word, word) for word in words.split()))
        assert outcome.code == code
        for path in tmp_path.iterdir():  # the signal waited until the file was whole
            assert path.name == "out.h5" and call("show", path).code == 0
            path.unlink()
        said = "basiscli: interrupted; every file is whole, the same command begins again"
        assert outcome.stderr.splitlines()[-1] == said
        monkeypatch.undo()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) == signal.default_int_handler


def test_a_sweep_says_that_it_goes_on(networks, monkeypatch, tmp_path):
    monkeypatch.setattr("basiscli.cli.inputs.paths_from", lambda files: signal.raise_signal(signal.SIGTERM))
    outcome = call("connectivity", *networks)
    assert outcome.code == 143 and outcome.stderr.strip() == "basiscli: interrupted; the same command goes on"


def test_a_signal_that_is_ignored_stays_ignored(networks, monkeypatch):
    monkeypatch.setattr("basiscli.cli.inputs.paths_from", lambda files: signal.raise_signal(signal.SIGTERM) or files)
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        assert call("show", networks[0]).code == 0
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.slow
def test_a_study_that_is_stopped_ends_its_steps(tmp_path):
    (tmp_path / "long.toml").write_text(PLAN)
    study = subprocess.Popen(
        [sys.executable, "-m", "basiscli", "study", "long.toml", "--out", "study"],
        cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    log = tmp_path / "study/logs/train-w8-free.log"
    wait_for(lambda: log.exists() and "epoch" in log.read_text())
    *rows, _ = done("study", tmp_path / "long.toml", "--out", tmp_path / "study", "--status").records
    assert rows[0]["status"] == "running" and rows[0]["says"].startswith("epoch ")
    study.send_signal(signal.SIGTERM)
    said = study.communicate(timeout=60)[1]
    assert study.returncode == 143 and "the running steps save and end, the same command goes on" in said
    assert "Traceback" not in said
    assert "interrupted and saved in epoch" in log.read_text()
    assert not [path for path in Path(tmp_path).rglob("*.partial")]
    state = json.loads((tmp_path / "study/steps/train-w8-free.json").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(state["process"], 0)
    *rows, _ = done("study", tmp_path / "long.toml", "--out", tmp_path / "study", "--status").records
    assert [row["status"] for row in rows] == ["stopped", "waiting"]
