"""What the data tests share: damage done to bytes, and a server on 127.0.0.1 that misbehaves when told to."""

import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import strategies as st

from basiscli.data.registry import ENTRIES


@pytest.fixture(scope="session")
def damaged():
    """A function from good bytes to a strategy of bytes with one to three edits: overwritten, cut out or put in."""

    def strategy(good: bytes) -> st.SearchStrategy[bytes]:
        edit = st.tuples(st.integers(0, len(good)), st.integers(0, 40), st.binary(max_size=8))

        def apply(edits):
            data = good
            for start, removed, added in edits:
                data = data[:start] + added + data[start + removed :]
            return data

        return st.lists(edit, min_size=1, max_size=3).map(apply) | st.integers(0, len(good)).map(lambda n: good[:n])

    return strategy


@dataclass
class Server:
    """`files` are served by name; `faults` says for a name: 404, "cut" (half-way) or "wrong" (other bytes)."""

    address: str
    files: dict[str, bytes] = field(default_factory=dict)
    faults: dict[str, int | str] = field(default_factory=dict)
    requested: list[str] = field(default_factory=list)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            name = self.path.lstrip("/")
            state.requested.append(name)
            fault = state.faults.get(name)
            if fault == 404 or name not in state.files:
                self.send_error(404)
                return
            body = state.files[name]
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if fault == "cut":
                body = body[: len(body) // 2]
            if fault == "wrong":
                body = bytes(len(body))
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        state = Server(f"http://127.0.0.1:{http.server_port}/")
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        yield state
        http.shutdown()
        thread.join()


@pytest.fixture
def register(monkeypatch):
    """A function that makes an entry known for the length of a test."""
    return lambda entry: monkeypatch.setitem(ENTRIES, entry.name, entry) or entry
