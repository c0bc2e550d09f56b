"""`--force` replaces what the command would have written, and nothing of another kind."""

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from basiscli.files import kinds
from tests.helpers import planted
from tests.helpers.command_line import call, done

KINDS = {
    "network": kinds.NETWORK,
    "activations": kinds.ACTIVATIONS,
    "correlations": kinds.results_of("correlate"),
    "permutations": kinds.results_of("match"),
    "figure": kinds.FIGURE,
    "arrays": "a file of another program",
    "text": "a file of another kind",
}
QUICK = ("--layer", "hidden1", "--samples", 50, "--split", "test")
# By command: the words that write FILE, and the kind that it replaces.
WRITERS = {
    "train": ("train --epochs 0 --width 8 --out FOLDER", "network"),
    "keep": ("train --epochs 1 --width 8 --keep 0 --out FOLDER", "network"),
    "record": ("record A --samples 50 --out FILE", "activations"),
    "correlate": ("correlate A B --samples 50 --out FILE", "correlations"),
    "match": ("match A B --samples 50 --out FILE", "permutations"),
    "apply": ("match A B --samples 50 --apply FILE", "network"),
    "merge": ("merge A B --match none --correct none --out FILE", "network"),
    "transform": ("transform A --permute 1 --out FILE", "network"),
    "rotate": ("rotate A --layer hidden1 --repeats 1 --epochs 1 --kind identity --out FOLDER", "network"),
    "plot": ("correlate A B --samples 50 --layer hidden1 --plot FILE", "figure"),
    "path": ("interpolate A B --match none --correct none --samples 50 --points 3 --plot FILE", "figure"),
    "rotations": (
        "rotate A --layer hidden1 --retrain none --repeats 1 --kind permutation --out OTHER --plot FILE",
        "figure",
    ),
}


@pytest.fixture(scope="module")
def samples(networks, tmp_path_factory) -> dict[str, Path]:
    """A file of each kind."""
    folder = tmp_path_factory.mktemp("kinds")
    files = {name: folder / name for name in KINDS}
    files["figure"] = folder / "figure.png"
    a, b, _ = networks
    shutil.copy(a, files["network"])
    done("record", a, *QUICK, "--out", files["activations"])
    done("correlate", a, b, *QUICK, "--out", files["correlations"], "--plot", files["figure"])
    done("match", a, b, "--samples", 50, "--out", files["permutations"])
    with h5py.File(files["arrays"], "w") as file:
        file["x"] = np.zeros((4, 2))
    files["text"].write_text("the only copy of a thesis")
    return files


def command(writer: str, networks: list[Path], folder: Path) -> tuple[list[str], Path]:
    """The words of a command and the file that it writes."""
    words = WRITERS[writer][0]
    name = {
        "train": "seed0.h5",
        "keep": "seed0-epoch0.h5",
        "rotate": "pre-downstream-reinit/hidden1/identity/seed0-repeat0.h5",
    }.get(writer)
    target = folder / (name or ("out.png" if "--plot" in words else "out.h5"))
    target.parent.mkdir(parents=True, exist_ok=True)
    names = {"A": networks[0], "B": networks[1], "FILE": target, "FOLDER": folder, "OTHER": folder / "other"}
    return [str(names.get(word, word)) for word in words.split()], target


def test_the_kind_of_a_file_is_told_by_its_content(samples, tmp_path):
    assert {name: kinds.kind_of(path) for name, path in samples.items()} == KINDS
    assert kinds.kind_of(Path("/dev/null")) == "a device or a pipe"
    (tmp_path / "empty").touch()
    (tmp_path / "damaged").write_bytes(samples["network"].read_bytes()[:3000])
    assert kinds.kind_of(tmp_path / "empty") is None and kinds.kind_of(tmp_path / "damaged") is None


@pytest.mark.parametrize("writer", WRITERS)
def test_nothing_of_another_kind_is_replaced(writer, networks, samples, tmp_path):
    words, target = command(writer, networks, tmp_path)
    for name, path in samples.items():
        if name != WRITERS[writer][1]:
            shutil.copy(path, target)
            call(*words, "--force").refused(target, f"is {KINDS[name]}", "remove this one")
            assert target.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("writer", ["train", "record", "plot", "transform"])
def test_its_own_kind_and_an_empty_file_are_replaced(writer, networks, samples, tmp_path):
    words, target = command(writer, networks, tmp_path)
    for path in (samples[WRITERS[writer][1]], Path("/dev/null")):
        target.write_bytes(path.read_bytes())
        done(*words, "--force")
        assert kinds.kind_of(target) == KINDS[WRITERS[writer][1]]


def test_kept_networks_are_not_replaced_without_a_word(networks, tmp_path):
    words, target = command("keep", networks, tmp_path)
    shutil.copy(networks[0], target)
    call(*words).refused(target, "exists")


def test_a_study_writes_into_no_folder_of_another(tmp_path):
    (tmp_path / "plan.toml").write_text("the plan of somebody else")
    call("study", "--out", tmp_path).refused(tmp_path / "plan.toml", "is not of this study")
    assert (tmp_path / "plan.toml").read_text() == "the plan of somebody else"


@pytest.mark.parametrize("name", ["report.html", "results.json", "figures/C2.png"])
def test_a_report_replaces_only_a_report(name, tmp_path):
    folder = planted.study(tmp_path)
    (folder / "figures").mkdir()
    (folder / name).write_text("mine")
    call("report", folder).refused(folder / name, "a file of another kind")
    assert (folder / name).read_text() == "mine"
