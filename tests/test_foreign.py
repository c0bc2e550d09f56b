"""Foreign text, such as names of layers: no table, message, figure, page or spreadsheet takes it for more than text."""

import csv
import io
import re
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest

from basiscli.api.tables import Table
from basiscli.names import in_csv, in_html, shown
from basiscli.plots.style import Figure, save
from tests.helpers import planted
from tests.helpers.command_line import call, done

FORMULA = "=cmd|' /C calc'!A0"
HOSTILE = {
    "[/]": "[/]",
    "w[red]x[/red]": "w[red]x[/red]",
    "$\\frac$": "$\\frac$",
    "<script>alert(1)</script>": "<script>alert(1)</script>",
    "\x1b[31mred": "\\x1b[31mred",
    "\x1b]0;title\x07": "\\x1b]0;title\\x07",
    "\u202egnp.exe": "\\u202egnp.exe",
    "a\nbasiscli: error: forged": "a\\nbasiscli: error: forged",
    FORMULA: FORMULA,
}
UNSAFE = re.compile("[\x00-\x09\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]")


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> list[Path]:
    """Two files of activations whose layers have hostile names."""
    folder = tmp_path_factory.mktemp("hostile")
    rng = np.random.default_rng(0)
    for name in "ab":
        with h5py.File(folder / f"{name}.h5", "w", track_order=True) as file:
            for layer in HOSTILE:
                file.create_dataset(layer.replace("/", "|"), data=rng.standard_normal((20, 3)))
    return [folder / "a.h5", folder / "b.h5"]


@pytest.mark.parametrize("style", ["table", "csv"])
def test_tables_messages_and_csv(files, style):
    outcome = done("correlate", *files, "--null", "rotated", "--draws", 2, "--format", style)
    assert not UNSAFE.search(outcome.stdout + outcome.stderr)
    for name in HOSTILE.values():
        assert name.replace("/", "|").split(" ")[0] in outcome.stdout
    assert not [line for line in outcome.stdout.splitlines() if line.startswith("basiscli:")]


def test_messages(files):
    assert not UNSAFE.search(call("correlate", *files, "--layer", "no").stderr)
    for name, safe in HOSTILE.items():
        outcome = call("show", name)
        outcome.refused(safe.replace("\\n", "\\n"), "no such file")
        assert not UNSAFE.search(outcome.stderr)
    assert not UNSAFE.search(call("train", "--model", "\x1b[31m\nx").stderr)
    assert not UNSAFE.search(done("show", *files, "--format", "table").stdout)


def test_a_spreadsheet_runs_no_cell():
    assert in_csv(FORMULA) == f"'{FORMULA}" and in_csv(" =1+1") == "' =1+1" and in_csv("@x") == "'@x"
    assert in_csv(-1.5) == -1.5 and in_csv(None) is None and in_csv("conv1") == "conv1"
    assert in_csv("a\nb") == "a\\nb"


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_figures(suffix, tmp_path):
    figure = Figure(layout="constrained")
    axis = figure.subfigures(1, 2)[0].subplots()
    axis.set_title("\n".join(HOSTILE))
    axis.annotate("$\\frac$", (0, 0))
    axis.plot([0, 1], label="$x$ \\frac $")
    axis.legend()
    with warnings.catch_warnings(action="error"):
        save(figure, tmp_path / f"figure.{suffix}")
    if suffix == "svg":
        assert not UNSAFE.search((tmp_path / "figure.svg").read_text())


def test_the_figure_of_layers_with_hostile_names(files, tmp_path):
    words = ("correlate", *files, "--null", "rotated", "--draws", 2, "--plot", tmp_path / "layers.svg")
    assert not UNSAFE.search(done(*words).stderr)
    assert not UNSAFE.search((tmp_path / "layers.svg").read_text())


def test_html():
    assert in_html("<b>\x1b&\"'") == "&lt;b&gt;\\x1b&amp;&quot;&#x27;" and in_html("a\nb") == "a\nb"
    assert shown("a\nb\r\u202e") == "a\nb\\r\\u202e"
    text = Table(({"layer": "<script>\x1b", "r": 0.5},))._repr_html_()
    assert "<script>" not in text and "\x1b" not in text


def test_a_report_of_hostile_records(tmp_path):
    records = [record | {"layer": f"<script>\x1b{FORMULA}"} for record in planted.TABLES["correlate"]()]
    folder = planted.study(tmp_path, correlate=records)
    done("report", folder)
    page = (folder / "report.html").read_text()
    assert "<script>\\x1b" not in page and "&lt;script&gt;\\x1b" in page and not UNSAFE.search(page)
    table = (folder / "tables/correlate.csv").read_text()
    assert not UNSAFE.search(table) and "<script>\\x1b" in next(csv.DictReader(io.StringIO(table)))["layer"]
