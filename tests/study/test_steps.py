"""Steps: run once, known again, stopped, failed, killed."""

import json
import os
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from basiscli.errors import BadInput
from basiscli.study import execution, sealed, steps
from basiscli.study.steps import Step
from tests.helpers.waiting import wait_for

SMALL = ("--hidden", "8,8", "--epochs", "1", "--batch-size", "512", "--seeds", "2", "--resume")
NETWORKS = ("networks/seed0.h5", "networks/seed1.h5")
TRAIN = Step("train", ("train", *SMALL, "--out", "networks"), (), NETWORKS)
CORRELATE = Step("correlate", ("correlate", *NETWORKS), ("train",))
LIST = Step("list", ("data", "list"))
MISSING = Step("missing", ("show", "no.h5"))
AFTER = Step("after", ("data", "list"), ("missing",))


def run(folder: Path, *found: Step) -> dict[str, dict]:
    """Run steps in a pool, and return how each went."""
    steps.prepare(folder, "test", "", found)
    with ThreadPoolExecutor(2) as pool:
        return {
            step.name: outcome for step, outcome in execution.walk(folder, found, lambda step: pool, slots=2, threads=1)
        }


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder in which two networks are trained and correlated. Not to be changed."""
    folder = tmp_path_factory.mktemp("study")
    assert {name: one["status"] for name, one in run(folder, CORRELATE, TRAIN).items()} == {
        "train": "done", "correlate": "done",
    }  # fmt: skip
    return folder


@pytest.fixture
def study(trained, tmp_path) -> Path:
    """A copy of it."""
    subprocess.run(["cp", "-a", f"{trained}/.", str(tmp_path)], check=True)
    return tmp_path


def reused(outcomes: dict[str, dict]) -> set[str]:
    return {name for name, one in outcomes.items() if one.get("reused")}


def test_steps_wait_for_what_they_read_and_keep_records_and_hashes(trained):
    (record,) = [json.loads(line) for line in (trained / "records/correlate.jsonl").read_text().splitlines()][-1:]
    assert record["a"] == NETWORKS[0] and record["layer"] == "hidden2"
    outcome = steps.outcome(trained, TRAIN)
    assert set(outcome["files"]) == {*NETWORKS, "records/train.jsonl"} and outcome["tries"] == 1
    assert "epoch 1/1" in (trained / "logs/train.log").read_text()
    name, found = steps.load(trained)
    assert (name, [vars(step) for step in found]) == ("test", [vars(CORRELATE), vars(TRAIN)])


def test_what_is_done_is_not_done_again(study):
    assert reused(run(study, TRAIN, CORRELATE)) == {"train", "correlate"}


def test_what_is_missing_or_changed_is_done_again(study):
    (study / NETWORKS[0]).unlink()
    assert reused(run(study, TRAIN, CORRELATE)) == {"correlate"}  # the network came out as it was
    (study / "records/correlate.jsonl").write_text("changed")
    assert reused(run(study, TRAIN, CORRELATE)) == {"train"}
    os.utime(study / NETWORKS[0])  # touched, not changed
    assert reused(run(study, TRAIN, CORRELATE)) == {"train", "correlate"}


def test_a_folder_that_moved_is_known_again(study):
    moved = study.rename(study.with_name("moved"))
    assert reused(run(moved, TRAIN, CORRELATE)) == {"train", "correlate"}


def test_another_command_does_all_that_follows_again(study):
    line = tuple("16,8" if word == "8,8" else word for word in TRAIN.words)
    outcomes = run(study, Step("train", line, (), NETWORKS), CORRELATE)
    assert reused(outcomes) == set()
    assert outcomes["train"]["why"] == "--hidden 16,8, was 8,8"
    assert outcomes["correlate"]["why"] == f"{NETWORKS[0]} and 1 more changed"
    record = json.loads((study / "records/correlate.jsonl").read_text().splitlines()[0])
    assert record["units_a"] == 16


def test_other_versions_and_other_data_are_another_step(tmp_path, monkeypatch):
    data = tmp_path / "data.npz"
    data.write_bytes(b"a")
    step = Step("train", ("train", "--dataset", str(data)))
    first = steps.depends(step, {"x.h5": "1"}, tmp_path)
    assert first == steps.depends(step, {"x.h5": "1"}, tmp_path)
    assert first != steps.depends(step, {"x.h5": "2"}, tmp_path)
    data.write_bytes(b"b")
    second = steps.depends(step, {"x.h5": "1"}, tmp_path)
    assert second != first
    monkeypatch.setattr(steps, "versions", lambda: {"numpy": "99"})
    assert steps.depends(step, {"x.h5": "1"}, tmp_path) != second


def test_a_step_says_why_it_runs_again(study, monkeypatch):
    assert steps.reasons(study, [CORRELATE, TRAIN]) == {"train": None, "correlate": None}
    assert {record["why"] for record in steps.states(study, [TRAIN, CORRELATE], 1)} == {None}
    other = Step("train", ("train", *SMALL, "--out", "networks", "--nesterov"), (), NETWORKS)
    assert steps.reasons(study, [other, CORRELATE, LIST]) == {
        "train": "--nesterov", "correlate": "it reads train, which runs again", "list": "it has not run",
    }  # fmt: skip
    (study / NETWORKS[1]).unlink()
    assert steps.reasons(study, [TRAIN])["train"] == f"{NETWORKS[1]} is not what it wrote"
    known = steps.versions()
    monkeypatch.setattr(steps, "versions", lambda: known | {"numpy": "99"})
    assert steps.reasons(study, [TRAIN])["train"] == f"numpy 99, was {known['numpy']}"


def test_what_changed_is_named():
    before = {"words": ["train", "--lr", "1", "--resume"], "inputs": {"a": "1"}, "data": {"d": "1"}, "versions": {}}
    for now, told in (
        ({"words": ["train", "--lr", "2", "--resume"]}, "--lr 2, was 1"),
        ({"words": ["train", "--lr", "1"]}, "without --resume"),
        ({"words": ["train", "x.h5", "--lr", "1", "--resume"]}, "it reads other files"),
        ({"inputs": {"a": "2"}}, "a changed"),
        ({"data": {"d": "2"}}, "d changed"),
        ({"versions": {"numpy": "2"}, "inputs": {"a": "2"}}, "a changed; numpy 2, was absent"),
        ({"inputs": {"a": "1", "b": "1"}}, "it depends on other files"),
    ):
        assert steps.changes(before, before | now) == told


def test_a_failed_step_is_tried_again_and_stops_only_what_needs_it(tmp_path):
    outcomes = run(tmp_path, MISSING, AFTER, LIST)
    assert {name: one["status"] for name, one in outcomes.items()} == {
        "missing": "failed", "after": "blocked", "list": "done",
    }  # fmt: skip
    assert outcomes["missing"]["tries"] == 2 and outcomes["missing"]["error"] == "no.h5: no such file"
    assert outcomes["after"]["error"] == "needs missing"
    assert steps.status(tmp_path, MISSING)["status"] == "failed" and not (tmp_path / MISSING.records).exists()


def test_a_step_that_could_not_be_started_has_failed(tmp_path):
    """Nothing may be written where its messages go: a full disk looks alike."""
    steps.prepare(tmp_path, "test", "", [LIST])
    (tmp_path / LIST.log).mkdir()
    outcomes = run(tmp_path, LIST)
    assert (outcomes["list"]["status"], outcomes["list"]["error"]) == (
        "failed",
        f"{tmp_path / LIST.log}: Is a directory",
    )
    assert steps.status(tmp_path, LIST)["status"] == "failed"


def test_a_step_that_somebody_has_in_hand_is_waited_for(tmp_path):
    steps.prepare(tmp_path, "test", "", [LIST])
    with ThreadPoolExecutor(2) as pool:
        first, second = (pool.submit(execution.execute, tmp_path, LIST, {}) for _ in range(2))
    assert sorted(bool(one.result().get("reused")) for one in (first, second)) == [False, True]


def start(folder: Path, step: Step) -> subprocess.Popen:
    """Run a step in a process of its own."""
    line = (
        f"from pathlib import Path; from basiscli.study import execution; from basiscli.study.steps import Step\n"
        f"execution.execute(Path({str(folder)!r}), Step({step.name!r}, {step.words!r}, (), {step.files!r}), {{}}, 1)"
    )
    steps.prepare(folder, "test", "", [step])
    return subprocess.Popen([sys.executable, "-c", line])


def test_kill_9_ends_the_command_too_and_the_step_goes_on(tmp_path):
    line = ("train", "--epochs", "400", "--seeds", "2", "--out", "networks", "--resume")
    long = Step("long", line, (), NETWORKS)
    process = start(tmp_path, long)
    wait_for((tmp_path / NETWORKS[1]).exists)
    assert steps.status(tmp_path, long)["status"] == "running"
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_for(lambda: steps.status(tmp_path, long)["status"] == "stopped")  # the lock is the command's, too
    assert "interrupted and saved" in (tmp_path / long.log).read_text()
    assert not (tmp_path / long.records).exists()


def test_the_remaining_time_is_told_by_the_steps_of_the_same_command():
    found = [Step(str(k), (command,)) for k, command in enumerate(("train", "train", "train", "show"))]
    outcomes = {"0": {"seconds": 4}, "1": {"seconds": 8}}
    assert steps.seconds_left(found, outcomes, jobs=1) is None  # nobody knows how long show takes
    outcomes["3"] = {"seconds": 1}
    assert steps.seconds_left(found, outcomes, jobs=2) == 3


def test_a_folder_without_a_study_is_refused(tmp_path):
    with pytest.raises(BadInput, match="holds no study"):
        steps.load(tmp_path)
    (tmp_path / "study.json").write_text('{"name": "x", "steps": [{"name": 1}]}')
    with pytest.raises(BadInput, match="holds no study"):
        steps.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"folder": "../victim"}, "writes ../victim"),
        ({"folder": "/victim"}, "writes /victim"),
        ({"folder": ""}, None),
        ({"folder": "."}, "writes ."),
        ({"files": ["networks/../../victim.h5"]}, "outside of the folder"),
        ({"name": "../../evil"}, "a name with other characters"),
        ({"name": ".hidden"}, "a name with other characters"),
        ({"words": ["study", "digits"]}, "runs study"),
        ({"words": []}, "runs nothing"),
        ({"words": ["train", "--out", "../victim"]}, "writes ../victim"),
        ({"words": ["train", "--out=/victim"]}, "writes /victim"),
    ],
)
def test_a_folder_from_elsewhere_cannot_reach_out_of_itself(tmp_path, change, words):
    folder, victim = tmp_path / "study", tmp_path / "victim"
    victim.mkdir()
    (victim / "precious").write_text("mine")
    steps.prepare(folder, "test", "", [TRAIN])
    study = sealed.read(folder / "study.json")
    study["steps"][0] |= change
    sealed.write(folder / "study.json", study)
    if words is None:
        assert steps.load(folder)[1][0].folder == ""
    else:
        with pytest.raises(BadInput, match=re.escape(words)):
            steps.load(folder)
    assert (victim / "precious").read_text() == "mine"


@pytest.mark.parametrize("name", ["study.json", "plan.toml"])
def test_a_changed_bit_in_the_files_of_a_study_is_refused(tmp_path, name):
    steps.prepare(tmp_path, "test", "[train]\nseeds = 5\n", [TRAIN])
    path = tmp_path / name
    path.write_text(path.read_text().replace("5", "7", 1))
    with pytest.raises(BadInput, match=rf"{name}: is .*; make the study anew from its plan"):
        steps.load(tmp_path)


@pytest.mark.parametrize("empty", [False, True])
def test_a_step_whose_state_is_damaged_runs_again(study, empty):
    path = study / "steps/correlate.json"
    path.write_text("{}" if empty else path.read_text().replace("done", "dona"))
    with pytest.raises(BadInput, match=r"steps/correlate.json: is damaged .*; remove it, and `basiscli study` runs"):
        steps.status(study, CORRELATE)
    assert reused(run(study, TRAIN, CORRELATE)) == {"train"}
    assert steps.status(study, CORRELATE)["status"] == "done"


def test_a_study_of_an_older_version_has_no_digests(tmp_path):
    steps.prepare(tmp_path, "test", "", [TRAIN])
    former = {name: value for name, value in sealed.read(tmp_path / "study.json").items() if name != "plan"}
    (tmp_path / "study.json").write_text(json.dumps(former))
    assert [step.name for step in steps.load(tmp_path)[1]] == ["train"]
