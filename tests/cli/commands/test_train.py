"""`basiscli train` through the real command line."""

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from basiscli.experiments import training_loop
from basiscli.files import hdf5, writer
from basiscli.files.networks import load_network
from tests.helpers.files import assert_same_networks

SMALL = ("train", "--epochs", 2, "--width", 16, "--depth", 2, "--batch-size", 256)


def test_one_record_and_one_file_a_seed(basiscli, tmp_path):
    done = basiscli(*SMALL, "--seeds", "0,4-5", "--out", tmp_path / "a")
    assert done.code == 0
    assert [record["seed"] for record in done.records] == [0, 4, 5]
    assert [Path(record["path"]).name for record in done.records] == ["seed0.h5", "seed4.h5", "seed5.h5"]
    assert set(done.records[0]) == {"path", "seed", "status", "test_accuracy", "test_loss", "train_loss"}
    assert all(record["status"] == "done" and record["test_accuracy"] > 0.5 for record in done.records)
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["seed0.h5", "seed4.h5", "seed5.h5"]
    assert "epoch 2/2" in done.stderr


def test_the_same_command_gives_the_same_weights_however_seeds_are_grouped(basiscli, tmp_path):
    basiscli(*SMALL, "--seeds", 3, "--out", tmp_path / "a", "--norm", "batch")
    basiscli(*SMALL, "--seeds", 3, "--out", tmp_path / "b", "--norm", "batch", "--seed-batch", 1)
    for seed in range(3):
        assert_same_networks(tmp_path / f"a/seed{seed}.h5", tmp_path / f"b/seed{seed}.h5")


def test_the_default_folder_is_below_the_working_one(basiscli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert basiscli(*SMALL, "--epochs", 1).records[0]["path"] == "runs/digits-mlp/seed0.h5"


def test_what_is_there_is_kept_unless_forced(basiscli, tmp_path):
    basiscli(*SMALL, "--out", tmp_path)
    before = (tmp_path / "seed0.h5").read_bytes()
    basiscli(*SMALL, "--lr", 0.2, "--out", tmp_path).refused("seed0.h5: exists", "--resume", "--force")
    assert (tmp_path / "seed0.h5").read_bytes() == before
    assert basiscli(*SMALL, "--lr", 0.2, "--out", tmp_path, "--force").code == 0
    assert (tmp_path / "seed0.h5").read_bytes() != before


def test_resume_adds_what_is_missing_and_keeps_the_rest(basiscli, tmp_path):
    basiscli(*SMALL, "--seeds", 1, "--out", tmp_path)
    before = (tmp_path / "seed0.h5").read_bytes()
    done = basiscli(*SMALL, "--seeds", 2, "--out", tmp_path, "--resume")
    assert [record["seed"] for record in done.records] == [0, 1]
    assert (tmp_path / "seed0.h5").read_bytes() == before


def test_resume_refuses_another_recipe(basiscli, tmp_path):
    basiscli(*SMALL, "--out", tmp_path)
    again = basiscli(*SMALL, "--out", tmp_path, "--resume", "--lr", 0.2)
    again.refused("seed0.h5: was trained with another training (lr 0.05, not 0.2)")
    other = basiscli("train", "--epochs", 2, "--width", 8, "--out", tmp_path, "--resume")
    other.refused("seed0.h5: was trained with another architecture (hidden [16, 16], not [8, 8, 8])")


@pytest.mark.parametrize("optimizer, norm", [("sgd", "batch"), ("adamw", "none")])
def test_resuming_a_checkpoint_ends_in_the_same_weights(basiscli, tmp_path, optimizer, norm):
    command = (*SMALL, "--epochs", 4, "--seeds", 2, "--optimizer", optimizer, "--norm", norm, "--augment", "shift")
    basiscli(*command, "--out", tmp_path / "whole")
    script = (
        "import sys; from basiscli.experiments import training_loop; from basiscli.cli.group import main\n"
        "training_loop.CHECKPOINT_SECONDS = 0\n"
        "def stop(self, run): raise SystemExit(9)\n"
        "training_loop.Folder.finish = stop\n"
        "sys.argv = ['basiscli', *sys.argv[1:]]; main()"
    )
    arguments = [str(argument) for argument in (*command, "--out", tmp_path / "part")]
    assert subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True).returncode == 9
    unfinished = load_network(tmp_path / "part/seed0.h5")
    assert unfinished.status == "unfinished" and unfinished.position["epoch"] == 3
    assert basiscli(*command, "--out", tmp_path / "part", "--resume").code == 0
    for seed in range(2):
        assert_same_networks(tmp_path / f"whole/seed{seed}.h5", tmp_path / f"part/seed{seed}.h5")


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_kept_networks_are_what_an_interruption_there_leaves(basiscli, tmp_path, optimizer):
    """To the last bit, optimiser and history included; training goes on from them to the same end."""
    command = (*SMALL, "--epochs", 4, "--seeds", 2, "--optimizer", optimizer, "--norm", "batch", "--augment", "shift")
    assert basiscli(*command, "--keep", "0,2", "--out", tmp_path / "whole").code == 0
    script = (
        "import sys; from basiscli.experiments import training_loop as loop; from basiscli.cli.group import main\n"
        "train_to_end = loop.train_to_end\n"
        "def stopped(run, save, due, progress, stop, between):\n"
        "    def end(run):\n"
        "        if run.epoch == 2: save(); raise SystemExit(9)\n"
        "    train_to_end(run, save, due, progress, stop, end)\n"
        "from basiscli.experiments import training; training.train_to_end = stopped\n"
        "sys.argv = ['basiscli', *sys.argv[1:]]; main()"
    )
    arguments = [str(argument) for argument in (*command, "--out", tmp_path / "part")]
    assert subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True).returncode == 9
    for seed in range(2):
        kept = tmp_path / f"whole/seed{seed}-epoch2.h5"
        assert load_network(kept).position["epoch"] == 2
        assert_same_networks(kept, tmp_path / f"part/seed{seed}.h5", "unfinished")
        start = load_network(tmp_path / f"whole/seed{seed}-epoch0.h5")
        assert (start.status, start.position["epoch"], start.seed) == ("unfinished", 0, seed)
        kept.rename(tmp_path / f"part/seed{seed}.h5")
    assert basiscli(*command, "--out", tmp_path / "part", "--resume").code == 0
    for seed in range(2):
        assert_same_networks(tmp_path / f"whole/seed{seed}.h5", tmp_path / f"part/seed{seed}.h5")
    assert basiscli(*command, "--epochs", 0, "--out", tmp_path / "none").code == 0
    untrained, start = (load_network(tmp_path / name) for name in ("none/seed0.h5", "whole/seed0-epoch0.h5"))
    for path, values in untrained.weights.items():
        np.testing.assert_array_equal(values, start.weights[path], err_msg=path)


def test_epochs_by_their_logarithm_and_the_last_one_which_is_the_network_itself(basiscli, tmp_path):
    done = basiscli("train", "--width", 8, "--epochs", 5, "--batch-size", 600, "--keep", "log", "--out", tmp_path)
    assert done.code == 0, done.stderr
    names = [f"seed0-epoch{epoch}.h5" for epoch in (0, 1, 2, 4)]
    assert sorted(path.name for path in tmp_path.iterdir()) == [*names, "seed0.h5"]
    assert [load_network(tmp_path / name).position["epoch"] for name in (*names, "seed0.h5")] == [0, 1, 2, 4, 5]
    assert basiscli(*SMALL, "--keep", "1,2", "--out", tmp_path / "b").code == 0
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == ["seed0-epoch1.h5", "seed0.h5"]


@pytest.mark.parametrize("optimizer, norm", [("sgd", "batch"), ("adamw", "none")])
def test_a_kept_network_is_a_training_that_was_stopped_there(basiscli, tmp_path, optimizer, norm):
    """To the last bit where the rate of a step does not depend on the number of epochs: the constant schedule."""
    command = (*SMALL, "--optimizer", optimizer, "--norm", norm, "--schedule", "constant", "--warmup", 0.5)
    for schedule in ("constant", "cosine"):
        words = (*command, "--schedule", schedule)
        assert basiscli(*words, "--epochs", 3, "--keep", 2, "--out", tmp_path / schedule).code == 0
        assert basiscli(*words, "--out", tmp_path / f"{schedule}-short").code == 0
        kept, short = (load_network(tmp_path / name) for name in (
            f"{schedule}/seed0-epoch2.h5", f"{schedule}-short/seed0.h5",
        ))  # fmt: skip
        pairs = [
            (values, getattr(short, part)[name])
            for part in ("weights", "state", "history")
            for name, values in getattr(kept, part).items()
        ]
        assert all(np.array_equal(one, other) for one, other in pairs) == (schedule == "constant")


def test_what_cannot_be_kept_is_refused_and_folders_stand_for_what_is_trained(basiscli, tmp_path):
    beyond = basiscli(*SMALL, "--keep", "0,3", "--out", tmp_path)
    beyond.refused("--keep 3: training ends after 2 epochs; choose from 0 to that")
    basiscli(*SMALL, "--keep", "1,1", "--out", tmp_path).refused("different epochs", code=2)
    assert basiscli(*SMALL, "--seeds", 2, "--keep", 1, "--out", tmp_path).code == 0
    again = basiscli(*SMALL, "--seeds", 2, "--keep", "0,1", "--out", tmp_path, "--resume")
    again.refused("seed0-epoch0.h5: was not kept, and training is past that epoch")
    (record,) = [r for r in basiscli("correlate", tmp_path).records if r["layer"] == "hidden1"]
    assert record["b"] == str(tmp_path / "seed1.h5")


def test_kept_networks_of_another_run_are_refused(basiscli, tmp_path):
    """A folder in which one run's kept networks lie beside the network of another, of the same or another recipe."""
    for name, rate in (("run", 0.05), ("other", 0.2)):
        assert basiscli(*SMALL, "--lr", rate, "--keep", 1, "--seeds", 2, "--out", tmp_path / name).code == 0
    resumed = (*SMALL, "--keep", 1, "--out", tmp_path / "run", "--resume")
    assert basiscli(*resumed).code == 0
    for other in ("other/seed0-epoch1.h5", "run/seed1-epoch1.h5", "run/seed0.h5"):
        shutil.copy(tmp_path / other, tmp_path / "run/seed0-epoch1.h5")
        basiscli(*resumed).refused("run/seed0-epoch1.h5: is no stage of", "seed0.h5, but of another run; --force")


# The command line with a checkpoint after each epoch, however short it is.
EVERY_EPOCH = (
    "-c",
    "from basiscli.experiments import training_loop; training_loop.CHECKPOINT_SECONDS = 0\n"
    "from basiscli.cli.group import main; main()",
)


def start(command: tuple, folder: Path, program: tuple[str, ...] = ("-m", "basiscli")) -> subprocess.Popen:
    arguments = [str(argument) for argument in (*command, "--out", folder)]
    return subprocess.Popen(
        [sys.executable, *program, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_finishes_the_step_saves_and_says_how_to_go_on(basiscli, tmp_path, number):
    command = ("train", "--epochs", 40, "--width", 32, "--seeds", 2, "--augment", "shift", "--checkpoint-every", 0)
    process = start(command, tmp_path / "part")
    assert "epoch 1/40" in "".join(process.stderr.readline() for _ in range(1))
    process.send_signal(number)
    stderr = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + number and "Traceback" not in stderr
    stopped = load_network(tmp_path / "part/seed1.h5")
    saved = f"interrupted and saved in epoch {stopped.position['epoch'] + 1} of 40"
    assert stderr.splitlines()[-1] == f"basiscli: {saved}; the same command with --resume goes on"
    assert stopped.status == "unfinished" and 0 < stopped.position["epoch"] < 40
    basiscli(*command, "--out", tmp_path / "part", "--resume")
    basiscli(*command, "--out", tmp_path / "whole")
    for seed in range(2):
        assert_same_networks(tmp_path / f"whole/seed{seed}.h5", tmp_path / f"part/seed{seed}.h5")


@pytest.mark.slow
def test_fifty_kills_leave_whole_files_and_the_same_end(basiscli, tmp_path, monkeypatch):
    monkeypatch.setattr(training_loop, "CHECKPOINT_SECONDS", 0)
    command = ("train", "--epochs", 400, "--width", 24, "--seeds", 2, "--augment", "shift", "--batch-size", 400)
    began = time.monotonic()
    basiscli(*command, "--out", tmp_path / "whole")
    epoch = (time.monotonic() - began) / 400
    chance = random.Random(0)
    for kill in range(50):
        process = start((*command, "--resume"), tmp_path / "part", EVERY_EPOCH)
        if kill % 10:
            # In training, in writing, or between: some epochs after the first line about one.
            assert process.stderr.readline().startswith("basiscli: epoch"), f"the run ended before kill {kill}"
            time.sleep(chance.uniform(0, 5 * epoch))
        else:
            time.sleep(chance.uniform(0, 1))  # while it starts
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL, f"the run ended before kill {kill}"
        for path in (tmp_path / "part").glob("*.h5"):
            load_network(path)
    assert load_network(tmp_path / "part/seed0.h5").position["epoch"] >= 45
    assert basiscli(*command, "--out", tmp_path / "part", "--resume").code == 0
    for seed in range(2):
        assert_same_networks(tmp_path / f"whole/seed{seed}.h5", tmp_path / f"part/seed{seed}.h5")
    assert sorted(path.name for path in (tmp_path / "part").iterdir()) == ["seed0.h5", "seed1.h5"]


def test_weights_from_a_donor_and_frozen(basiscli, networks, tmp_path):
    donor = load_network(networks[0])
    options = (
        "--hidden",
        "24,24",
        "--start-from",
        networks[0],
        "--start-weights",
        "hidden1/*",
        "--freeze",
        "hidden1/*",
    )
    done = basiscli(*SMALL[:3], *options, "--seeds", 2, "--out", tmp_path)
    assert done.code == 0, done.stderr
    for seed in range(2):
        mine = load_network(tmp_path / f"seed{seed}.h5")
        np.testing.assert_array_equal(mine.weights["hidden1/w"], donor.weights["hidden1/w"])
        assert (mine.weights["hidden2/w"] != donor.weights["hidden2/w"]).all()
        assert mine.training["start_from"] == str(networks[0]) and mine.training["frozen"] == ["hidden1/*"]


def test_a_diverged_seed_is_reported(basiscli, tmp_path):
    done = basiscli(*SMALL, "--activation", "linear", "--lr", 1e9, "--out", tmp_path)
    assert (
        done.code == 1
        and "seed0.h5: diverged in training, and no network is left; choose a smaller --lr" in done.stderr
    )
    assert done.records[0]["status"] == "diverged"
    assert "activations" not in json.dumps(list(hdf5.open_reader(tmp_path / "seed0.h5").datasets()))
    left = basiscli("correlate", "-", stdin=done.stdout)
    assert "diverged in training, left out" in left.stderr and left.code == 1


def test_a_data_set_in_a_file(basiscli, tmp_path):
    rng = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 200), ("test", 50)):
        labels = rng.integers(0, 3, count)
        arrays[f"{split}/labels"] = labels
        arrays[f"{split}/images"] = (labels[:, None, None, None] + 0.1 * rng.standard_normal((count, 3, 4, 2))).astype(
            "f"
        )
    np.savez(tmp_path / "set.npz", **arrays)
    writer.save_arrays(tmp_path / "set.h5", arrays, {})
    for name in ("set.npz", "set.h5"):
        done = basiscli(
            "train",
            "--width",
            16,
            "--dataset",
            tmp_path / name,
            "--batch-size",
            20,
            "--out",
            tmp_path / name.replace(".", "-"),
        )
        assert done.code == 0, done.stderr
        assert done.records[0]["test_accuracy"] > 0.9
    assert_same_networks(tmp_path / "set-npz/seed0.h5", tmp_path / "set-h5/seed0.h5")


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("--seeds", "5-3"), "'5-3': write 5 (for 0 to 4), 3-7, or 0,2,9"),
        (("--seeds", "a"), "'a': write"),
        (("--seeds", "1,1"), "a seed twice"),
        (("--seeds", "0"), "no seed"),
        (("--width", "0"), "--width"),
        (("--hidden", "64,0"), "'64,0': write widths from 1 on"),
        (("--hidden", "64", "--width", "3"), "leave out --width"),
        (("--vary", "weather"), "'weather' is none of init, order, augment"),
        (("--start-weights", "x"), "--start-from"),
        (("--resume", "--force"), "choose one"),
        (("--optimizer", "adamw", "--nesterov"), "--nesterov needs"),
        (("--lr", "-1"), "--lr"),
        (("--lr", "nan"), "'nan' is not a finite number"),
        (("--weight-decay", "inf"), "'inf' is not a finite number"),
    ],
)
def test_a_wrong_command_line_is_refused(basiscli, tmp_path, arguments, words):
    basiscli("train", *arguments, "--out", tmp_path / "a").refused(words, code=2)
    assert not (tmp_path / "a").exists()


def test_what_cannot_be_trained_is_refused(basiscli, networks, tmp_path):
    out = ("--out", tmp_path / "a")
    basiscli("train", "--freeze", "block*", *out).refused("no weight matches 'block*'", "hidden1/w")
    basiscli("train", "--dataset", "nothing", *out).refused("nothing: no such data set")
    basiscli("train", "--dataset", tmp_path / "no.h5", *out).refused("no.h5: no such file")
    basiscli("train", "--start-from", networks[0], *out).refused("hidden1/w (64, 24) does not fit ((64, 64))")
    basiscli("train", "--width", 10**7, *out).refused("GB", "smaller --width")
    (tmp_path / "file").touch()
    basiscli("train", "--out", tmp_path / "file").refused("file: cannot be made (File exists)")
    basiscli("train", "--out", tmp_path / "file" / "b").refused("cannot be made (Not a directory)")
    assert not (tmp_path / "a").exists()


def test_images_of_a_file_with_channels_first(basiscli, tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (20, 3, 8, 8), np.uint8)
    labels = np.arange(20) % 2
    content = {"train/images": images, "train/labels": labels, "test/images": images[:6], "test/labels": labels[:6]}
    np.savez(tmp_path / "first.npz", **content)
    train = ("train", "--dataset", tmp_path / "first.npz", "--hidden", 4, "--epochs", 0)
    done = basiscli(*train, "--out", tmp_path / "a")
    assert done.code == 0 and "read as (N, C, H, W), channels first" in done.stderr
    assert len(load_network(tmp_path / "a/seed0.h5").dataset["mean"]) == 3
    cube = {key: x.transpose(0, 2, 3, 1)[:, :3, :, :][:, :, :3, :] for key, x in content.items() if x.ndim == 4}
    np.savez(tmp_path / "cube.npz", **content | cube)
    told = ("train", "--dataset", tmp_path / "cube.npz", "--channels", "first", "--hidden", 4, "--epochs", 0)
    assert basiscli(*told, "--out", tmp_path / "b").code == 0
    recorded = basiscli("record", tmp_path / "b/seed0.h5")  # its data set is read as it was for the training
    assert recorded.code == 0, recorded.stderr
    basiscli("train", "--channels", "first", "--out", tmp_path / "c").refused("digits", "--channels")
