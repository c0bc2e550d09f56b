"""The files that are damaged and the commands that are disturbed: small ones, made once, never changed."""

import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from basiscli.data import load
from tests.helpers.command_line import call, done

DATA = "small.npz"
SMALL = ("--dataset", DATA, "--hidden", "8,6", "--norm", "batch", "--batch-size", "32", "--augment", "none")
TRAIN = ("train", *SMALL, "--seeds", "2", "--epochs", "3")
SWEEP = (*SMALL, "--seeds", "2", "--epochs", "1", "--draws", "2")
NETS = ("nets/seed0.h5", "nets/seed1.h5")
WALK = ("--points", "3", "--match", "none", "--correct", "none")
ROTATE = ("rotate", *NETS, "--layer", "hidden1", "--kind", "orthogonal", "--repeats", "1", "--epochs", "1")
PLAN = """\
[train]
dataset = "digits"
seeds = 2
epochs = 2
batch_size = 600

[correlate]
widths = [6]
draws = 2
zeros = false

[rotate]
widths = [6]
repeats = 1
kind = "orthogonal"
zeros = false
"""


@dataclass(frozen=True)
class Reading:
    """A command that reads a file. inputs: what it needs beside the file. outputs: what it writes."""

    words: tuple[str, ...]
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Writing:
    """A command that writes. inputs: what it needs. old: what lies at its targets before, by path: a file of the world.

    weight: how often it is drawn. growing: it leaves unfinished networks where it is stopped.
    """

    name: str
    words: tuple[str, ...]
    inputs: tuple[str, ...]
    old: Mapping[str, str]
    weight: float = 1
    growing: bool = False


_BOTH = (*NETS, DATA)
READERS: Mapping[str, Sequence[Reading]] = {
    "nets/seed0.h5": (
        Reading(("show", "nets/seed0.h5")),
        Reading(("check", "nets/seed0.h5")),
        Reading(("correlate", *NETS), _BOTH),
        Reading(("interpolate", *NETS, *WALK), _BOTH),
        Reading(("match", *NETS, "--samples", "50", "--out", "new.h5"), _BOTH, ("new.h5",)),
        Reading(("record", "nets/seed0.h5", "--out", "new.h5"), _BOTH, ("new.h5",)),
        Reading(("merge", *NETS, "--out", "new.h5", "--match", "none"), _BOTH, ("new.h5",)),
        Reading(("transform", "nets/seed0.h5", "--permute", "1", "--out", "new.h5"), _BOTH, ("new.h5",)),
    ),
    "part/seed0.h5": (
        Reading(("show", "part/seed0.h5")),
        Reading((*TRAIN, "--out", "part", "--resume"), ("part/seed1.h5", DATA), ("part/seed0.h5", "part/seed1.h5")),
    ),
    "acts/a.h5": (Reading(("show", "acts/a.h5")), Reading(("correlate", "acts/a.h5", "acts/b.h5"), ("acts/b.h5",))),
    "permutations.h5": (
        Reading(("show", "permutations.h5")),
        Reading(("match", *NETS, "--by", "permutations.h5", "--out", "new.h5"), _BOTH, ("new.h5",)),
        Reading(("interpolate", *NETS, "--points", "3", "--match", "permutations.h5", "--correct", "none"), _BOTH),
    ),
    "correlations.h5": (Reading(("show", "correlations.h5")), Reading(("check", "correlations.h5"))),
    "rotated/pre-downstream-reinit/hidden1/orthogonal/seed0-repeat0.h5": (
        Reading((*ROTATE, "--out", "rotated"), (*_BOTH, "rotated"), ("rotated",)),
    ),
    "study/study.json": (
        Reading(("study", "study", "--status"), ("study",)),
        Reading(("report", "study"), ("study",), ("study/results.json",)),
    ),
    "study/records/correlate-w6.jsonl": (Reading(("report", "study"), ("study",), ("study/results.json",)),),
    "study/steps/correlate-w6.json": (
        Reading(("study", "study", "--status"), ("study",)),
        Reading(("report", "study"), ("study",), ("study/results.json",)),
    ),
}
WRITERS = (
    Writing("train", (*TRAIN, "--out", "new", "--resume"), (DATA,), {}, 3, True),
    Writing(
        "train --force", (*TRAIN, "--out", "new", "--force"), (DATA,),
        {"new/seed0.h5": "other/seed0.h5", "new/seed1.h5": "other/seed1.h5"}, 2, True,
    ),
    Writing("train --resume", (*TRAIN, "--out", "part", "--resume"), (DATA, "part"), {}, 2, True),
    Writing("rotate", (*ROTATE, "--out", "new"), _BOTH, {}, 2, True),
    Writing(
        "record", ("record", "nets/seed0.h5", "--out", "new.h5", "--force"), (*_BOTH, "acts"),
        {"new.h5": "acts/b.h5"}, 2,
    ),
    Writing(
        "correlate", ("correlate", *NETS, "--out", "new.h5", "--force"), _BOTH, {"new.h5": "other/correlations.h5"}, 2,
    ),
    Writing(
        "correlate --plot", ("correlate", *NETS, "--plot", "new.png", "--force"), _BOTH, {"new.png": "other/pair.png"},
        0.5,
    ),
    Writing(
        "match", ("match", *NETS, "--samples", "50", "--out", "new.h5", "--apply", "applied.h5", "--force"), _BOTH,
        {"new.h5": "other/permutations.h5", "applied.h5": "other/seed1.h5"}, 2,
    ),
    Writing(
        "transform", ("transform", "nets/seed0.h5", "--permute", "1", "--out", "new.h5", "--force"), _BOTH,
        {"new.h5": "other/seed0.h5"},
    ),
    Writing(
        "merge", ("merge", *NETS, "--match", "none", "--out", "new.h5", "--force"), _BOTH, {"new.h5": "other/seed0.h5"},
    ),
    Writing("freeze", ("freeze", *SWEEP, "--prefixes", "0,1", "--donors", "trained", "--out", "new"), (DATA,), {},
            0.7, True),
    Writing(
        "connectivity",
        ("connectivity", *SMALL[:2], *SMALL[4:], "--seeds", "2", "--epochs", "1", "--draws", "2", "--widths", "6,8",
         *WALK, "--out", "new"),
        (DATA,), {}, 0.7, True,
    ),
    Writing("report", ("report", "study"), ("study",), {}, 0.5),
    Writing("study", ("study", "plan.toml", "--out", "new", "--jobs", "1"), ("plan.toml",), {}, 0.3, True),
)  # fmt: skip
# Commands that run beside one that writes, in its folder.
COMPANIONS: Mapping[str, tuple[str, ...]] = {
    "train --force": ("correlate", "new/seed0.h5", "new/seed1.h5"),
    "train --resume": (*TRAIN, "--out", "part", "--force"),
    "record": ("correlate", "new.h5", "acts/a.h5"),
    "match": ("show", "new.h5"),
    "report": ("study", "study", "--status"),
    "study": ("report", "new"),
}


def build(folder: Path) -> None:
    """Make the files of the world in a folder. All kernels that the commands need are compiled or loaded by it."""
    folder.mkdir(parents=True, exist_ok=True)
    digits = load("digits")
    np.savez(
        folder / DATA,
        **{
            f"{part}/{name}": getattr(getattr(digits, part), name)[:96]
            for part in ("train", "test")
            for name in ("images", "labels")
        },
    )
    before = Path.cwd()
    os.chdir(folder)
    try:
        done(*TRAIN, "--out", "nets", "--keep", "1")
        (folder / "part").mkdir()
        for seed in range(2):
            (folder / f"nets/seed{seed}-epoch1.h5").rename(folder / f"part/seed{seed}.h5")
        done(*TRAIN, "--out", "other", "--lr", "0.01")
        for network, name in zip(NETS, "ab", strict=True):
            done("record", network, "--out", folder / "acts.h5")
            (folder / "acts").mkdir(exist_ok=True)
            (folder / "acts.h5").rename(folder / f"acts/{name}.h5")
        done("match", *NETS, "--samples", "50", "--out", "permutations.h5")
        done("correlate", *NETS, "--out", "correlations.h5")
        others = ("other/seed0.h5", "other/seed1.h5")
        done("match", *others, "--samples", "50", "--out", "other/permutations.h5")
        done("correlate", *others, "--out", "other/correlations.h5", "--plot", "other/pair.png")
        done(*ROTATE, "--out", "rotated")
        (folder / "plan.toml").write_text(PLAN)
        done("study", "plan.toml", "--out", "study", "--jobs", "1")
    finally:
        os.chdir(before)


def warm(world: Path, folder: Path) -> None:
    """Run every command once in this process, in a copy of the world: what it loads and compiles stays."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(world, folder)
    before = Path.cwd()
    os.chdir(folder)
    try:
        words = [reading.words for readings in READERS.values() for reading in readings]
        for line in dict.fromkeys([*words, *(writing.words for writing in WRITERS)]):
            shutil.rmtree("new", ignore_errors=True)
            Path("new.h5").unlink(missing_ok=True)
            outcome = call(*line)
            assert outcome.code == 0, (line, outcome.stderr)
    finally:
        os.chdir(before)
        shutil.rmtree(folder)


def furnish(world: Path, folder: Path, names: Sequence[str]) -> None:
    """Copy files and folders of the world into an empty folder."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if (world / name).is_dir():
            shutil.copytree(world / name, folder / name, dirs_exist_ok=True)
        else:
            shutil.copy(world / name, folder / name)


def content(path: Path) -> str:
    """Return the hash of a file. The same command writes the same bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def contents(folder: Path) -> dict[str, str]:
    """Return the hashes of all files below a folder, by path."""
    return {str(path.relative_to(folder)): content(path) for path in sorted(folder.rglob("*")) if path.is_file()}
