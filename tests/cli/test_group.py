"""The command line as a Unix tool: help, exit codes, pipes, and what it imports."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from basiscli.cli import records
from basiscli.cli.group import COMMANDS
from tests.helpers.command_line import shell

ROOT = Path(__file__).parents[2]


def test_help_lists_every_command_and_imports_nothing_heavy():
    script = (
        "import sys; sys.argv = ['basiscli', '--help']\n"
        "from basiscli.cli.group import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(sorted({'numpy', 'numba', 'h5py', 'matplotlib', 'cupy', 'scipy', 'rich', 'pooch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    *text, loaded = done.stdout.splitlines()
    assert loaded == "[]"
    for name in COMMANDS:
        assert any(line.startswith(f"  {name} ") for line in text), name


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_without_heavy_imports(basiscli, name):
    done = basiscli(name, "--help")
    assert done.code == 0 and done.stdout.startswith(f"Usage: basiscli {name}")
    assert "Error" not in done.stderr


def test_exit_codes(basiscli, tmp_path):
    assert basiscli("--version").code == 0
    assert basiscli("nonsense").code == 2
    assert basiscli("show", tmp_path / "x.h5").code == 1


def test_debug_shows_the_traceback(tmp_path):
    command = [sys.executable, "-m", "basiscli"]
    plain = subprocess.run([*command, "show", str(tmp_path / "x.h5")], capture_output=True, text=True)
    debug = subprocess.run([*command, "--debug", "show", str(tmp_path / "x.h5")], capture_output=True, text=True)
    assert "Traceback" not in plain.stderr and plain.returncode == 1
    assert "Traceback" in debug.stderr and "BadInput" in debug.stderr and debug.returncode == 1


def test_train_pipes_into_correlate(tmp_path):
    done = shell("basiscli train --seeds 3 --epochs 1 --width 16 2>/dev/null | basiscli correlate -", tmp_path)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == 3 * 3
    assert found[0]["a"] == "runs/digits-mlp/seed0.h5" and found[0]["layer"] == "hidden1"


def test_a_reader_that_leaves_is_no_error(tmp_path):
    done = shell(
        "basiscli train --seeds 3 --epochs 1 --width 16 2>/dev/null | head -1; echo ${PIPESTATUS[0]}", tmp_path
    )
    first, code = done.stdout.splitlines()
    assert json.loads(first)["seed"] == 0
    assert code in ("0", "141") and "Traceback" not in done.stderr and "Broken" not in done.stderr
    assert len(list((tmp_path / "runs/digits-mlp").iterdir())) == 3


def test_xargs_and_plain_paths(tmp_path):
    done = shell(
        "basiscli train --seeds 2 --epochs 1 --width 16 2>/dev/null >/dev/null\n"
        "ls runs/digits-mlp/*.h5 | basiscli correlate - --layer hidden1 | wc -l\n"
        f"ls runs/digits-mlp/*.h5 | xargs {sys.executable} -m basiscli correlate --format csv | head -1",
        tmp_path,
    )
    lines, header = done.stdout.splitlines()
    assert lines.strip() == "1" and header.startswith("a,b,layer,units_a")


def test_an_empty_pipe_is_refused(basiscli):
    basiscli("correlate", "-", stdin="").refused("no file was named")
    basiscli("correlate", "-", stdin='{"seed": 1}\n').refused("a record without a path")


def test_json_has_null_for_what_is_not_finite(capsys):
    records.emit([{"x": float("nan"), "y": float("inf"), "z": 1}], "json")
    assert json.loads(capsys.readouterr().out) == {"x": None, "y": None, "z": 1}


def test_a_table_never_breaks_numbers(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    records.emit([{"path": "a/very/long/path/" * 5, "value": 0.123456, "count": 123456789}], "table")
    text = capsys.readouterr().out
    assert "0.1235" in text and "123456789" in text


def test_every_number_of_an_option_is_finite():
    for path in (ROOT / "basiscli/cli/commands").glob("*.py"):
        assert path.name == "ranges.py" or not re.search(r"FloatRange|type=float", path.read_text()), path


def test_it_works_from_any_folder(tmp_path):
    script = "import basiscli.kernels.cpu.micro, basiscli.data; print(basiscli.data.load('digits').classes)"
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=os.environ, capture_output=True, text=True)
    assert done.stdout == "10\n", done.stderr


def test_help_is_quick():
    """`basiscli --help` takes less than 0.15 s, the best of several runs; more where an empty program takes more."""

    def seconds(*arguments: str) -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
        return time.perf_counter() - began

    runs = [(seconds("-c", "pass"), seconds("-m", "basiscli", "--help")) for _ in range(7)]
    empty, helped = (min(times) for times in zip(*runs, strict=True))
    # An empty program takes 0.02 s on an idle machine; a loaded one is slower by that factor.
    assert helped < 0.15 * max(1, empty / 0.02), f"{helped:.3f} s, an empty program {empty:.3f} s"


@pytest.mark.parametrize(
    "words",
    [
        ("correlate", "A", "B", "--out", "A"),
        ("record", "A", "--out", "A"),
        ("match", "A", "B", "--out", "B"),
        ("match", "A", "B", "--apply", "B"),
        ("match", "A", "B", "--apply", "A"),
        ("merge", "A", "B", "--out", "A"),
        ("transform", "A", "--permute", "1", "--out", "A"),
    ],
    ids=" ".join,
)
def test_an_input_is_never_overwritten(basiscli, networks, tmp_path, words):
    names = dict(zip("AB", (tmp_path / path.name for path in networks[:2]), strict=True))
    for path, copy in zip(networks, names.values(), strict=False):
        copy.write_bytes(path.read_bytes())
    before = {path: path.read_bytes() for path in names.values()}
    done = basiscli(*(names.get(word, word) for word in words), "--force")
    done.refused("is an input, which is never overwritten")
    assert {path: path.read_bytes() for path in names.values()} == before


@pytest.mark.parametrize(
    ("suffix", "begins"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF"), ("PNG", b"\x89PNG")]
)
def test_a_figure_is_what_its_suffix_says(basiscli, networks, tmp_path, suffix, begins):
    plot = tmp_path / f"pair.{suffix}"
    assert basiscli("correlate", *networks[:2], "--layer", "hidden1", "--plot", plot).code == 0
    assert plot.read_bytes().startswith(begins)


def test_a_figure_of_another_suffix_is_refused(basiscli, networks, tmp_path):
    for name in ("pair.h5", "pair", "pair.jpg"):
        done = basiscli("correlate", *networks[:2], "--plot", tmp_path / name)
        done.refused("a figure is written as .png, .svg, .pdf", code=2)
    assert not list(tmp_path.iterdir())
