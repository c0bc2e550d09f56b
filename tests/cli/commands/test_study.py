"""`basiscli study` through its command line: what it runs, says and leaves, also when it is killed."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.helpers.command_line import Outcome, call

# Kills in a run of the tests; BASISCLI_KILLS=20 for as many as the issue asks for.
KILLS = int(os.environ.get("BASISCLI_KILLS", "2"))
PLAN = """\
[train]
dataset = "digits"
seeds = 3
epochs = 2
batch_size = 256

[correlate]
widths = [8]
draws = 2
zeros = false

[freeze]
widths = [8]
prefixes = [0, 1]
donors = "trained"
donor_seeds = [100]
draws = 2
"""
OTHERS = """
[rotate]
widths = [8]
repeats = 2
zeros = false

[connectivity]
widths = [8, 12]
match = "activations"
draws = 2
points = 5
degrade = true
"""
STEPS = ["train-w8-free", "correlate-w8", "train-w8-donor-trained-100", "train-w8-trained-1"]
STEPS += ["freeze-w8-donor100"]


@pytest.fixture(scope="module")
def plan(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("plan") / "small.toml"
    path.write_text(PLAN)
    return path


@pytest.fixture(scope="module")
def study(plan) -> tuple[Path, Outcome]:
    """A finished study and what it said. Not to be changed."""
    folder = plan.parent / "study"
    outcome = call("study", plan, "--out", folder)
    assert outcome.code == 0, outcome.stderr
    return folder, outcome


def test_it_ends_in_a_report_and_four_claims(study):
    folder, outcome = study
    assert [record["claim"] for record in outcome.records] == ["C1", "C2", "C3", "C3", "C4"]
    assert {record["verdict"] for record in outcome.records} == {"undecided"}  # three networks, no zeros
    results = json.loads((folder / "results.json").read_text())
    assert results["claims"] == outcome.records and list(results["steps"]) == STEPS
    assert (folder / "report.html").exists()
    first, *_, last = outcome.stderr.splitlines()
    assert "5 steps in" in first and "[5/5]" in outcome.stderr and last.endswith("study/report.html")


def test_what_is_done_is_not_done_again_whatever_it_is_named_by(study, plan):
    folder, outcome = study
    for name in (plan, folder):
        again = call("study", name, "--out", folder)
        assert again.records == outcome.records and "[" not in again.stderr
    assert call("report", folder).records == outcome.records


def test_a_changed_plan_says_what_runs_again_and_why(study, tmp_path):
    shutil.copytree(study[0], tmp_path / "study")
    changed = tmp_path / "changed.toml"
    changed.write_text(PLAN.replace("draws = 2", "draws = 3", 1))
    rows = call("study", changed, "--out", tmp_path / "study", "--status").records
    assert [row["why"] for row in rows] == [None, "--draws 3, was 2", None, None, None, None]
    row, whole = call("study", changed, "--out", tmp_path / "study", "--dry-run").records
    assert (row["step"], row["why"], whole["step"]) == ("correlate-w8", "--draws 3, was 2", "1 of 5 steps")
    again = call("study", changed, "--out", tmp_path / "study")
    (line,) = [line for line in again.stderr.splitlines() if "[" in line]
    assert re.fullmatch(r"basiscli: \[\d/5\] correlate-w8 [\d.]+ s, again: --draws 3, was 2(, about .*)?", line)


def test_printed_lines_are_the_study(study, plan, tmp_path):
    """Run by a shell in a folder of its own, they leave the same records."""
    lines = call("study", plan, "--print").stdout
    assert len(lines.splitlines()) == len(STEPS)
    run_in_shell(lines, tmp_path)
    for path in (study[0] / "records").iterdir():
        assert (tmp_path / "records" / path.name).read_bytes() == path.read_bytes(), path.name


@pytest.mark.slow
def test_the_documented_lines_for_xargs_are_the_study(study, plan, tmp_path):
    page = (Path(__file__).parents[3] / "docs/cluster.md").read_text()
    (block,) = re.findall(r"```sh\n(mkdir.*?)```", page, re.S)
    run_in_shell(block.replace("mnist", str(plan)), tmp_path)
    assert (tmp_path / "study/results.json").read_bytes() == (study[0] / "results.json").read_bytes()


def run_in_shell(lines: str, folder: Path) -> None:
    """Run lines in bash, with this installation as the program `basiscli`."""
    program = folder / "bin/basiscli"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m basiscli "$@"\n')
    program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}"}
    subprocess.run(["bash", "-c", f"set -e\n{lines}"], cwd=folder, env=environment, check=True, capture_output=True)


def test_status_before_and_after(study, plan, tmp_path):
    *rows, last = call("study", study[0], "--status").records
    assert [(row["step"], row["status"]) for row in rows] == [(name, "done") for name in STEPS]
    assert (last["status"], last["left"]) == ("5 done", 0) and last["seconds"] > 0
    assert {row["why"] for row in rows} == {None}
    *rows, last = call("study", plan, "--out", tmp_path / "none", "--status").records
    assert {row["status"] for row in rows} == {"waiting"} and last["left"] is None
    assert {row["why"] for row in rows} == {"it has not run"}
    assert not (tmp_path / "none").exists()


def test_a_dry_run_says_what_it_would_take(tmp_path):
    longer = tmp_path / "longer.toml"
    longer.write_text(PLAN.replace("epochs = 2", "epochs = 200"))
    *rows, last = call("study", longer, "--out", tmp_path / "none", "--dry-run").records
    assert [row["step"] for row in rows] == STEPS and not (tmp_path / "none").exists()
    assert all(row["seconds"] > 0 for row in rows if row["step"].startswith("train"))
    assert all(row["seconds"] >= 1 for row in rows), "every step has to start"
    assert last["networks"] == 3 + 1 + 3 and last["seconds"] == pytest.approx(sum(r["seconds"] for r in rows), abs=1)


def test_rotating_untrained_networks_takes_time(tmp_path):
    (tmp_path / "plan.toml").write_text(PLAN[: PLAN.index("[correlate]")] + "[rotate]\nwidths = [8]\nrepeats = 50\n")
    rows = call("study", tmp_path / "plan.toml", "--out", tmp_path / "none", "--dry-run").records
    seconds = {row["step"]: row["seconds"] for row in rows}
    assert seconds["rotate-w8-untrained"] == pytest.approx(seconds["rotate-w8-linear"], rel=0.5)


def test_failed_steps_are_told_and_end_in_1(plan, tmp_path):
    text = PLAN[: PLAN.index("[freeze]")] + 'layer = "nothing"\n'
    (tmp_path / "plan.toml").write_text(text)
    outcome = call("study", tmp_path / "plan.toml", "--out", tmp_path / "study")
    assert outcome.code == 1 and "1 of 2 steps failed: correlate-w8; see" in outcome.stderr
    assert [record["verdict"] for record in outcome.records][1] == "undecided"
    assert json.loads((tmp_path / "study/results.json").read_text())["failed"] == ["correlate-w8"]
    assert "nothing" in (tmp_path / "study/report.html").read_text()


def descendants(process: int) -> list[int]:
    """The processes that a process started, and those that they started."""
    listing = subprocess.run(["ps", "-e", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    parents = dict(map(int, line.split()) for line in listing.splitlines())
    found = [process]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found[1:]


def files_of(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.slow
def test_kill_9_at_random_moments_changes_nothing(tmp_path):
    """Killed and run again and again, alone or with all that it started, a study ends in the same results to the last
    digit and in the same files: none is left over.
    """
    (tmp_path / "all.toml").write_text(PLAN + OTHERS)
    command = [sys.executable, "-m", "basiscli", "study", "all.toml", "--out"]
    began = time.monotonic()
    subprocess.run([*command, "once"], cwd=tmp_path, check=True, capture_output=True)
    whole, rng, kills, moments = time.monotonic() - began, random.Random(8), 0, []
    while kills < KILLS:
        process = subprocess.Popen(
            [*command, "killed"], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(rng.uniform(0.5, whole / 3))
        if process.poll() is None:
            others = descendants(process.pid) if kills % 2 else []
            process.kill()
            for one in others:
                with suppress(ProcessLookupError):
                    os.kill(one, signal.SIGKILL)
            process.wait()
            kills += 1
            done = [json.loads(path.read_text())["status"] for path in (tmp_path / "killed/steps").glob("*.json")]
            moments.append(f"{len(others)} others, {done.count('done')} done, {done.count('running')} running")
        else:  # it was done before: from the beginning
            shutil.rmtree(tmp_path / "killed")
    subprocess.run([*command, "killed"], cwd=tmp_path, check=True, capture_output=True)
    print(*moments, sep="\n")
    assert (tmp_path / "killed/results.json").read_bytes() == (tmp_path / "once/results.json").read_bytes()
    assert files_of(tmp_path / "killed") == files_of(tmp_path / "once")


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("--dry-run", "--print"), "choose one"),
        (("--jobs", 0), "--jobs"),
        (("--jobs", 2, "--scheduler", "tcp://127.0.0.1:9"), "--jobs is for this machine"),
    ],
)
def test_a_wrong_command_line_is_refused(arguments, words):
    call("study", *arguments).refused(words, code=2)


def test_a_shipped_plan_is_found_beside_a_folder_of_its_name(tmp_path, monkeypatch):
    (tmp_path / "digits").mkdir()
    monkeypatch.chdir(tmp_path)
    assert call("study", "digits", "--print").stdout == call("study", "--print").stdout != ""


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    call("study", "--out", tmp_path / "file/study").refused("file", "Not a directory")


def test_no_plan_of_that_name():
    call("study", "nonsense").refused("nonsense: no plan; name a TOML file, the folder of a study, or one of")
