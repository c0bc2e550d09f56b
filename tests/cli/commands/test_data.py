import dataclasses
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


def test_list_has_every_data_set(basiscli, cache):
    outcome = basiscli("data", "list")
    found = {record["name"]: record for record in outcome.records}
    assert (outcome.code, outcome.stderr) == (0, "")
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


def test_list_says_where_only_when_all_is_there(basiscli, copy, cache):
    (cache / "copy").mkdir(parents=True)
    for name in list(locate(lookup("digits"))):
        assert basiscli("data", "list").records[-1]["where"] is None
        (cache / "copy" / name).write_bytes((DIGITS / name).read_bytes())
    assert basiscli("data", "list").records[-1]["where"] == str(cache / "copy")


def test_list_as_a_table(basiscli, cache):
    outcome = basiscli("data", "list", "--format", "table")
    assert outcome.code == 0
    assert "28x28x1" in outcome.stdout
    assert "licence" not in outcome.stdout


def test_fetch_prints_records_and_plain_progress(basiscli, copy, cache):
    outcome = basiscli("data", "fetch", "copy")
    assert outcome.code == 0
    assert [record["status"] for record in outcome.records] == ["fetched"] * 4
    assert outcome.records[0]["path"] == str(cache / "copy" / "train-images-idx3-ubyte.gz")
    assert outcome.stderr.splitlines()[0] == "fetching train-images-idx3-ubyte.gz (0.0 MB)"
    assert len(outcome.stderr.splitlines()) == 4
    outcome = basiscli("data", "fetch", "copy")
    assert (outcome.code, outcome.stderr) == (0, "")
    assert [record["status"] for record in outcome.records] == ["kept"] * 4


def test_fetch_draws_bars_on_a_terminal(copy, monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.argv", ["basiscli", "data", "fetch", "copy", "--format", "csv"])
    with pytest.raises(SystemExit) as caught:
        main()
    printed = capsys.readouterr()
    assert not caught.value.code
    assert printed.out.startswith("name,file,status,official,path\n")
    assert "train-images-idx3-ubyte.gz" in printed.err
    assert "fetching" not in printed.err


def test_failed_fetch_is_one_line(basiscli, copy, cache, monkeypatch):
    monkeypatch.setitem(ENTRIES, "copy", dataclasses.replace(copy, addresses=(f"{copy.addresses[0]}nowhere/",)))
    outcome = basiscli("data", "fetch", "copy")
    assert (outcome.code, outcome.stdout) == (1, "")
    assert outcome.stderr.startswith("basiscli: error: http://127.0.0.1:")
    assert "404" in outcome.stderr
    assert outcome.stderr.count("\n") == 1
    assert not cache.exists()


def test_interrupted_fetch_says_how_to_go_on(basiscli, copy, cache, monkeypatch):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("pooch.retrieve", interrupt)
    outcome = basiscli("data", "fetch", "copy")
    assert (outcome.code, outcome.stdout) == (130, "")
    assert "the same command goes on with what is missing" in outcome.stderr
    assert not cache.exists()


def test_import_copies_a_folder(basiscli, copy, cache):
    outcome = basiscli("data", "import", "copy", str(DIGITS))
    assert outcome.code == 0
    assert [(record["status"], record["official"]) for record in outcome.records] == [("imported", True)] * 4
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
def test_bad_input_is_one_line_and_an_exit_code(basiscli, cache, arguments, code, message):
    outcome = basiscli("data", *arguments)
    assert (outcome.code, outcome.stdout) == (code, "")
    assert message in outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert not cache.exists()


@pytest.mark.parametrize("arguments", [(), ("list",), ("fetch",), ("import",)])
def test_help_is_there(basiscli, arguments):
    outcome = basiscli("data", *arguments, "--help")
    assert outcome.code == 0
    assert "Usage: basiscli data" in outcome.stdout
