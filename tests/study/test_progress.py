"""What a study says while it runs: the running steps, their own words, the remaining time."""

import fcntl
import json
import time
from pathlib import Path

import pytest

from basiscli.study import progress, steps
from basiscli.study.progress import Progress
from basiscli.study.steps import Step

FOUND = [Step(name, ("train", "--out", name)) for name in ("first", "second", "third")]


@pytest.fixture
def folder(tmp_path) -> Path:
    """A study whose second step runs."""
    steps.prepare(tmp_path, "planted", "", FOUND)
    (tmp_path / "steps/second.json").write_text(json.dumps({"status": "running", "began": time.time() - 30}))
    (tmp_path / "logs/second.log").write_text("basiscli: compiling\nbasiscli: epoch 3/10 [red]\x1b: 0.9, 7 s left\n")
    with (tmp_path / "steps/second.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield tmp_path


def test_running_steps_say_how_far_they_are(folder):
    shown = Progress(folder, FOUND, 2)
    shown.outcomes["first"] = {"status": "done", "seconds": 20.0}
    ((name, seconds, says),) = shown.rows()
    assert name == "second" and 29 <= int(seconds.split()[0]) <= 40
    assert says == "epoch 3/10 [red]\x1b: 0.9, 7 s left"
    assert shown.left() == ", about 20 s left"
    assert Progress(folder, FOUND, None).left() == ""


def test_the_live_list_is_text(folder):
    from rich.console import Console

    console = Console(width=100, record=True, file=(folder / "screen").open("w"))
    console.print(Progress(folder, FOUND, 2)._table())
    text = console.export_text()
    assert "0 of 3 steps done" in text and "epoch 3/10 [red]\\x1b: 0.9, 7 s left" in text


def test_what_is_too_long_keeps_the_epoch_and_the_remaining_time():
    said = "epoch 15/30 seeds 0,1: train loss 0.7516 0.6928, test accuracy 0.7571 0.7604, 12 s left"
    cut = progress._cut(said, 40)
    assert len(cut) <= 40 and cut.startswith("epoch 15/30") and cut.endswith("12 s left") and " … " in cut
    assert progress._cut("short", 5) == "short"


def test_without_a_log_nothing_is_said(folder):
    assert steps.said(folder, FOUND[0]) == ""
    (folder / "logs/first.log").write_bytes(b"x" * 2 * steps.LAST_BYTES + b"\nbasiscli: error: \xff")
    assert steps.said(folder, FOUND[0]) == "\ufffd"
