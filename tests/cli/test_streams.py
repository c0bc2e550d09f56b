"""Names of any kind and streams in any state: each works or is one clear line, and nothing trained is lost."""

import json
import os
import shutil
from pathlib import Path

import pytest

from basiscli.cli import tables
from basiscli.device import placement
from tests.helpers.command_line import call, done, shell

NAME = os.fsdecode(b"f\xff[red]")


@pytest.fixture
def folder(tmp_path, networks, monkeypatch) -> Path:
    """A folder with a name that is not UTF-8, with two networks, as the present folder."""
    folder = tmp_path / NAME
    folder.mkdir()
    for k, name in enumerate(("seed0.h5", "seed1.h5")):
        shutil.copy(networks[k], folder / name)
    monkeypatch.chdir(folder)
    return folder


def correlated(stdin: str) -> tuple[str, str]:
    (record,) = done("correlate", "-", "--layer", "hidden1", "--samples", 50, stdin=stdin).records
    return record["a"], record["b"]


def test_a_folder_that_is_not_utf_8(folder, capsys):
    (record,) = done("train", "--epochs", 0, "--width", 8, "--out", folder / "new").records
    assert Path(record["path"]).exists()
    recorded = done("record", folder / "seed0.h5", "--samples", 50, "--out", folder / "a.h5").records[0]["path"]
    for words in (("show", recorded), ("show", folder / "seed0.h5", "--format", "table")):
        assert done(*words).stdout
    words = ("correlate", folder / "a.h5", folder / "seed1.h5", "--layer", "hidden1", "--samples", 50)
    assert "f\\udcff[red]/seed1.h5" in done(*words, "--format", "csv").stdout
    assert json.loads(done(*words).stdout)["a"] == str(folder / "a.h5")
    tables.show([{"path": f"{folder}/seed0.h5"}, {"path": f"{folder}/seed1.h5"}], ["path"])
    assert "f\\udcff[red]/:" in capsys.readouterr().out


def test_lines_of_stdin_are_names_of_any_kind(folder):
    Path("seed0.h5").rename("{x}.h5")
    Path("seed1.h5").rename(" y.h5")
    assert correlated("{x}.h5\n y.h5\n") == ("{x}.h5", " y.h5")
    assert correlated('\ufeff{"path": "{x}.h5"}\r\n  {"path": " y.h5"}\n') == ("{x}.h5", " y.h5")
    Path(" y.h5").rename("z.h5")
    assert correlated("\ufeff{x}.h5\r\n  z.h5\n") == ("{x}.h5", "z.h5")


@pytest.mark.parametrize(
    ("stdin", "said"),
    [
        ("\x89HDF\r\n\x1a\n\0\0", "holds bytes, not lines"),
        ('{"path": 5}\n', "a record without a path"),
        ('{"path": "a.h5"\n', 'no such file'),
        ("\n \n", "no file was named"),
        ("[red]x[/].h5\x1b[31m\n", "[red]x[/].h5\\x1b[31m: no such file"),
    ],
)  # fmt: skip
def test_what_is_no_name_is_one_clear_line(folder, stdin, said):
    call("show", "-", stdin=stdin).refused(said)


def test_brackets_are_no_markup(monkeypatch, tmp_path):
    monkeypatch.setattr(placement, "trouble", lambda: "pip install 'basiscli[cuda]', or [cuda12]")
    assert "'basiscli[cuda]', or [cuda12]" in " ".join(done("doctor", "--format", "table").stdout.split())
    call("show", tmp_path / "w[red]/a[x].h5").refused("w[red]/a[x].h5: no such file")


@pytest.mark.slow
def test_streams_that_are_closed_full_or_abandoned(networks, tmp_path):
    """What is asked for is done, or the command says in one line why not; a file is never mixed up with a stream."""
    finished = shell(
        "set +e\n"
        "basiscli train --epochs 1 --width 8 --out closed <&- >&- 2>&-; echo $?\n"
        "basiscli train --epochs 1 --width 8 --out unread 2> >(exec true) >records; echo $?\n"
        "basiscli train --epochs 0 --width 8 --out full >/dev/full; echo $?\n"
        "basiscli --help >/dev/full; echo $?\n"
        "basiscli nonsense 2>/dev/full; echo $?\n"
        "ls -d */*.h5 | basiscli show - | wc -l",
        tmp_path,
    )
    assert finished.stdout.split() == ["0", "0", "1", "1", "2", "3"]
    said = [line for line in finished.stderr.splitlines() if "error" in line]
    assert said == [
        "basiscli: error: stdout: No space left on device",
        "basiscli: error: input or output: No space left on device",
    ]
    assert "Exception" not in finished.stderr and "Traceback" not in finished.stderr


def test_a_long_message_keeps_its_beginning_and_its_end():
    said = call("train", "--model", "x" * 5000).stderr
    assert len(said) < 800 and said.startswith("basiscli: error: Invalid value") and "wideresnet" in said
