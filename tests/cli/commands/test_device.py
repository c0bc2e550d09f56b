"""`--device` and `--precision`: every command that computes gives on a device what it gives on the host.

The device is that of tests/emulation; a machine without one gets a clear line.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from basiscli.cli.group import COMMANDS, describe

COMPUTE = (
    "train", "record", "correlate", "rotate", "match", "interpolate", "merge", "freeze", "connectivity", "study",
    "selftest", "privilege", "evolve", "compare", "import",
)  # fmt: skip
TRAIN = (
    "--augment", "none", "--epochs", 1, "--width", 12, "--depth", 2, "--batch-size", 200,
)  # fmt: skip


@pytest.fixture(scope="module")
def trained(basiscli, tmp_path_factory) -> list[Path]:
    """Three networks, trained on the host."""
    folder = tmp_path_factory.mktemp("trained")
    done = basiscli("train", *TRAIN, "--seeds", 3, "--device", "cpu", "--out", folder)
    assert done.code == 0, done.stderr
    return [record["path"] for record in done.records]


def both(basiscli, device, *words, out=(), tolerance=2e-3) -> None:
    """Compare the records that a command prints on the host and on the device; `out` has {} for either's name."""
    found = []
    for place in ("cpu", "cuda"):
        before = device.launches
        done = basiscli(*words, *(str(word).format(place) for word in out), "--device", place)
        assert done.code == 0, done.stderr
        assert (device.launches > before) == (place == "cuda")
        found.append(done.records)
    assert found[0] and len(found[0]) == len(found[1])
    for ours, theirs in zip(*found, strict=True):
        assert ours.keys() == theirs.keys()
        for name, value in ours.items():
            if isinstance(value, float) or (isinstance(value, list) and isinstance(value[0], float)):
                assert theirs[name] == pytest.approx(value, rel=tolerance, abs=tolerance), name
            elif "cpu" not in str(value):
                assert theirs[name] == value, name


def test_the_commands_that_compute_have_both_options(basiscli):
    for name in COMMANDS:
        text = basiscli(name, "--help").stdout
        assert ("--device" in text and "--precision" in text) == (name in COMPUTE), name


def test_train(basiscli, device, tmp_path):
    both(basiscli, device, "train", *TRAIN, "--seeds", 2, out=("--out", tmp_path / "{}"))


def test_train_a_convolutional_network(basiscli, device, tmp_path):
    small = ("--model", "resnet", "--depth", 8, "--width", "1/8", "--augment", "crop,flip", "--epochs", 1)
    words = ("train", *small, "--batch-size", 400, "--no-activations")
    both(basiscli, device, *words, out=("--out", tmp_path / "{}"), tolerance=1e-2)


def test_resume_on_the_other(basiscli, device, tmp_path):
    words = ("train", *TRAIN, "--checkpoint-every", 1, "--out", tmp_path)
    assert basiscli(*words, "--device", "cuda").code == 0
    done = basiscli(*words, "--device", "cpu", "--resume")
    assert done.code == 0 and done.records[0]["status"] == "done"


def test_record(basiscli, device, trained, tmp_path):
    both(basiscli, device, "record", trained[0], "--samples", 50, out=("--out", tmp_path / "{}.h5"))
    compared = basiscli("correlate", tmp_path / "cpu.h5", tmp_path / "cuda.h5", "--device", "cpu")
    assert all(record["identity"] > 0.99 or record["dead_a"] for record in compared.records)


def test_correlate(basiscli, device, trained):
    both(basiscli, device, "correlate", *trained[:2], "--tap", "pre", "--null", "rotated", "--draws", 3)


def test_rotate(basiscli, device, trained, tmp_path):
    words = ("rotate", *trained[:2], "--layer", "hidden1", "--repeats", 1, "--epochs", 1)
    both(basiscli, device, *words, out=("--out", tmp_path / "{}"), tolerance=2e-2)


def test_match(basiscli, device, trained):
    both(basiscli, device, "match", *trained[:2], "--by", "activations")


@pytest.mark.parametrize("correct", ["none", "repair"])
def test_interpolate(basiscli, device, trained, correct):
    words = ("interpolate", *trained[:2], "--points", 3, "--match", "none,activations", "--correct", correct)
    both(basiscli, device, *words)


def test_interpolate_with_batchnorm_reset(basiscli, device, tmp_path):
    words = ("train", *TRAIN, "--norm", "batch", "--seeds", 2, "--device", "cpu", "--out", tmp_path)
    paths = [record["path"] for record in basiscli(*words).records]
    both(basiscli, device, "interpolate", *paths, "--points", 3, "--match", "none", "--correct", "reset-bn")


def test_merge(basiscli, device, trained, tmp_path):
    both(basiscli, device, "merge", *trained, "--match", "activations", out=("--out", tmp_path / "{}.h5"))


def test_freeze(basiscli, device, tmp_path):
    words = ("freeze", *TRAIN, "--seeds", 2, "--prefixes", "0,1", "--donors", "initial", "--draws", 2)
    both(basiscli, device, *words, out=("--out", tmp_path / "{}"), tolerance=2e-2)


def test_connectivity(basiscli, device, trained):
    both(basiscli, device, "connectivity", *trained[:2], "--points", 3, "--match", "activations", "--draws", 2)


def test_a_study_passes_the_device_to_its_steps(basiscli, device):
    plain = basiscli("study", "--print").stdout
    assert "--device" not in plain and basiscli("study", "--print", "--device", "auto").stdout == plain
    lines = basiscli("study", "--print", "--device", "cuda", "--precision", "tf32").stdout.splitlines()
    assert lines and all("--device cuda --precision tf32" in line for line in lines)


def test_a_precision_of_the_device(basiscli, device, tmp_path):
    words = ("train", *TRAIN, "--seeds", 1)
    losses = []
    for precision in ("float32", "bf16"):
        done = basiscli(*words, "--device", "cuda", "--precision", precision, "--out", tmp_path / precision)
        losses.append(done.records[0]["train_loss"])
    assert 0 < abs(losses[1] - losses[0]) < 0.05


def test_no_card_is_one_clear_line(tmp_path):
    """In a process of its own, where cupy is as it is here: not there, or there without a driver."""
    script = "import sys; from basiscli.cli.group import main; sys.argv[0] = 'basiscli'; main()"
    words = ["train", "--device", "cuda", "--epochs", "0", "--out", str(tmp_path / "x")]
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True)
    if done.returncode == 0:
        pytest.skip("this machine has a card")
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1 and not (tmp_path / "x").exists()
    assert done.stderr.startswith("basiscli: error: --device cuda: ") and "--device cpu" in done.stderr


def test_what_fails_on_a_gpu_names_the_way_out():
    class OutOfMemoryError(MemoryError):
        __module__ = "cupy.cuda.memory"

    class CompileException(Exception):
        __module__ = "cupy.cuda.compiler"

    assert "--device cpu" in describe(OutOfMemoryError("1 byte")) and "--device cpu" in describe(CompileException("x"))


def test_a_precision_without_a_gpu_is_refused(basiscli):
    basiscli("train", "--precision", "tf32", "--device", "cpu").refused("--precision tf32", "only a GPU")
