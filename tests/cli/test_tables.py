"""Tables on terminals of different widths: every number and every title survives, and text is no markup."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from basiscli.cli import tables
from tests.helpers.command_line import call
from tests.helpers.terminal import in_terminal, seen


def on_terminal(arguments: list[str], width: int, folder: Path) -> str:
    """What a command shows on a terminal so many columns wide, without colours and notes."""
    code, written = in_terminal(f"basiscli {shlex.join(arguments)} 2> /dev/null", folder, width)
    assert code == 0
    return seen(written)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Three files of activations in a folder, one layer of a long name, one with brackets."""
    folder = tmp_path_factory.mktemp("terminal")
    (folder / "some/where").mkdir(parents=True)
    rng = np.random.default_rng(0)
    shared = rng.standard_normal((200, 8))
    for name in "abc":
        with h5py.File(folder / f"some/where/{name}.h5", "w") as file:
            for layer in ("features.block12.residual.conv2", "w[red]"):
                file[layer] = shared + rng.standard_normal((200, 8))
    return folder


@pytest.mark.parametrize("width", [60, 80, 120])
def test_every_number_and_title_survives(folder, width):
    files = [f"some/where/{name}.h5" for name in "abc"]
    words = ["correlate", *files, "--null", "rotated", "--draws", "5", "--intervals"]
    shown = on_terminal(words, width, folder)
    records = [json.loads(line) for line in subprocess.run(
        [sys.executable, "-m", "basiscli", *words], capture_output=True, text=True, cwd=folder, check=True
    ).stdout.splitlines()]  # fmt: skip
    assert all(len(line) <= width for line in shown.splitlines())
    for record in records:
        for name in ("matched_held_out", "standardised_rotated_held_out_mean", "standardised_aligned_held_out"):
            assert f"{record[name]:.4f}" in shown, name
        assert f"{record['standardised_rotated_held_out_excess']:.2f}" in shown
    for title in ("pair", "layer", "out", "null", "excess", "ceiling"):
        assert re.search(rf"\b{title}\b", shown), title
    assert "in some/where/:" in shown and "features.block12.residual.conv2" in shown and "w[red]" in shown
    assert len(re.findall(r"rotated\s+null\s+\d\.\d\d", shown)) == 2, "a line of words for each layer"


def test_columns_go_from_the_end_and_rows_are_listed_where_nothing_fits(capsys, monkeypatch):
    row = {"path": "x", "first": 0.25, "second": 1 / 3, "third": 123456789.0}
    monkeypatch.setenv("COLUMNS", "40")
    tables.show([row], list(row), needed=3)
    assert "third" not in (text := capsys.readouterr().out) and "0.3333" in text
    monkeypatch.setenv("COLUMNS", "20")
    tables.show([row], list(row), needed=3)
    assert capsys.readouterr().out == "path    x\nfirst   0.2500\nsecond  0.3333\nthird   123456789.0000\n"


def test_a_long_text_is_no_column_of_single_words(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    row = {
        "claim": "C1",
        "verdict": "shown",
        "effect": "1.956 (1.680 to 2.232)",
        "because": "it lies above zero, " * 20,
    }
    tables.show([row], list(row))
    text = capsys.readouterr().out
    assert text.startswith("claim    C1\n") and len(text.splitlines()) < 15


@pytest.mark.parametrize("other, above", [("runs/m/b.h5", True), ("b.h5", False), ("mean of 3 pairs", True)])
def test_only_a_folder_of_all_files_stands_above(capsys, other, above):
    tables.show([{"path": "runs/m/a.h5"}, {"path": other}], ["path"])
    text = capsys.readouterr().out
    assert ("in runs/m/:" in text) == above and ("runs/m/a.h5" in text) != above


@pytest.mark.parametrize("name", ["w[red]x[/]", "$\\frac$", "a\x1b[31mb", "a\nb", "\u202eabc"])
def test_names_are_text(capsys, name):
    tables.show([{"layer": name, "value": 1}], ["layer", "value"])
    text = capsys.readouterr().out
    assert name.encode("unicode_escape").decode().replace("\\\\", "\\") in text.replace("\\x0a", "\\n")
    assert "\x1b" not in text and "\u202e" not in text


def test_dead_units_are_told(tmp_path):
    rng = np.random.default_rng(0)
    for name in "ab":
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["x"] = rng.standard_normal((100, 8)) * (np.arange(8) > 1)
    shown = call("correlate", tmp_path / "a.h5", tmp_path / "b.h5", "--format", "table").stdout
    assert "2 of 8 units dead (scored 0)" in shown
