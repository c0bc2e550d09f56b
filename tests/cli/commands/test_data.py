import dataclasses
import json
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from basiscli.cli.group import main
from basiscli.data import locate, lookup, names
from basiscli.data.registry import ENTRIES

DIGITS = next(iter(locate(lookup("digits")).values())).parent


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BASISCLI_DATA", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def copy(cache, monkeypatch):
    """The bundled digits as a data set `copy` on a server on 127.0.0.1."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(DIGITS))) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        address = f"http://127.0.0.1:{http.server_port}/"
        entry = dataclasses.replace(lookup("digits"), name="copy", addresses=(address,))
        monkeypatch.setitem(ENTRIES, "copy", entry)
        yield entry
        http.shutdown()
        thread.join()


@pytest.fixture
def run(monkeypatch, capsys):
    """A function that runs a command line and returns exit code, stdout and stderr."""

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["basiscli", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        captured = capsys.readouterr()
        return caught.value.code or 0, captured.out, captured.err

    return call


def records(out: str) -> list[dict]:
    return [json.loads(line) for line in out.splitlines()]


def test_list_has_every_data_set(run, cache):
    code, out, err = run("data", "list")
    found = {record["name"]: record for record in records(out)}
    assert (code, err) == (0, "")
    assert tuple(found) == names()
    assert found["digits"] | {"source": ""} == {
        "name": "digits",
        "train": 1200,
        "test": 597,
        "shape": "8x8x1",
        "classes": 10,
        "where": str(DIGITS),
        "source": "",
        "licence": "CC BY 4.0",
        "citation": lookup("digits").citation,
    }
    assert found["mnist"]["where"] is None


def test_list_says_where_only_when_all_is_there(run, copy, cache):
    (cache / "copy").mkdir(parents=True)
    for name in list(locate(lookup("digits"))):
        assert records(run("data", "list")[1])[-1]["where"] is None
        (cache / "copy" / name).write_bytes((DIGITS / name).read_bytes())
    assert records(run("data", "list")[1])[-1]["where"] == str(cache / "copy")


def test_list_as_a_table(run, cache):
    code, out, _ = run("data", "list", "--format", "table")
    assert code == 0
    assert "28x28x1" in out
    assert "licence" not in out


def test_fetch_prints_records_and_plain_progress(run, copy, cache):
    code, out, err = run("data", "fetch", "copy")
    assert code == 0
    assert [record["status"] for record in records(out)] == ["fetched"] * 4
    assert records(out)[0]["path"] == str(cache / "copy" / "train-images-idx3-ubyte.gz")
    assert err.splitlines()[0] == "fetching train-images-idx3-ubyte.gz (0.0 MB)"
    assert len(err.splitlines()) == 4
    code, out, err = run("data", "fetch", "copy")
    assert (code, err) == (0, "")
    assert [record["status"] for record in records(out)] == ["kept"] * 4


def test_fetch_draws_bars_on_a_terminal(run, copy, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    code, out, err = run("data", "fetch", "copy", "--format", "csv")
    assert code == 0
    assert out.startswith("name,file,status,official,path\n")
    assert "train-images-idx3-ubyte.gz" in err
    assert "fetching" not in err


def test_failed_fetch_is_one_line(run, copy, cache, monkeypatch):
    monkeypatch.setitem(ENTRIES, "copy", dataclasses.replace(copy, addresses=(f"{copy.addresses[0]}nowhere/",)))
    code, out, err = run("data", "fetch", "copy")
    assert (code, out) == (1, "")
    assert err.startswith("basiscli: error: http://127.0.0.1:")
    assert "404" in err
    assert err.count("\n") == 1
    assert not cache.exists()


def test_interrupted_fetch_says_how_to_go_on(run, copy, cache, monkeypatch):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("pooch.retrieve", interrupt)
    code, out, err = run("data", "fetch", "copy")
    assert (code, out) == (130, "")
    assert "`basiscli data fetch copy` goes on" in err
    assert not cache.exists()


def test_import_copies_a_folder(run, copy, cache):
    code, out, _ = run("data", "import", "copy", str(DIGITS))
    assert code == 0
    assert [(record["status"], record["official"]) for record in records(out)] == [("imported", True)] * 4
    assert (cache / "copy" / "t10k-labels-idx1-ubyte.gz").is_file()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("fetch", "mnst"), 1, "mnst: no such data set; there are digits, mnist"),
        (("import", "mnist", "/nowhere"), 1, "/nowhere: not a folder"),
        (("import", "digits", "."), 1, "digits is bundled"),
        (("fetch",), 2, "Missing argument"),
        (("import", "mnist"), 2, "Missing argument"),
        (("list", "--format", "xml"), 2, "Invalid value"),
    ],
)
def test_bad_input_is_one_line_and_an_exit_code(run, cache, arguments, code, message):
    found, out, err = run("data", *arguments)
    assert (found, out) == (code, "")
    assert message in err
    assert "Traceback" not in err
    assert not cache.exists()


@pytest.mark.parametrize("arguments", [(), ("list",), ("fetch",), ("import",)])
def test_help_is_there(run, arguments):
    code, out, _ = run("data", *arguments, "--help")
    assert code == 0
    assert "Usage: basiscli data" in out
