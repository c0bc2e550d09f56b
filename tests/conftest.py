"""What all tests share: the command line in this process, and a few trained networks."""

import io
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from basiscli.cli.group import main


@dataclass(frozen=True)
class Outcome:
    """What a command line did."""

    code: int
    stdout: str
    stderr: str

    @property
    def records(self) -> list[dict]:
        """The JSON lines of stdout."""
        return [json.loads(line) for line in self.stdout.splitlines()]

    def refused(self, *words: str, code: int = 1) -> None:
        """Assert one line on stderr that names all the words, and nothing on stdout."""
        assert self.code == code, self.stderr
        assert not self.stdout
        if code == 1:
            assert self.stderr.startswith("basiscli: error: ") and len(self.stderr.splitlines()) == 1, self.stderr
        for word in words:
            assert str(word) in self.stderr


def call(*arguments: object, stdin: str = "") -> Outcome:
    """Run `basiscli ARGUMENTS` in this process."""
    saved = sys.argv, sys.stdin, sys.stdout, sys.stderr
    sys.argv = ["basiscli", *map(str, arguments)]
    sys.stdin, sys.stdout, sys.stderr = io.StringIO(stdin), io.StringIO(), io.StringIO()
    try:
        main()
    except SystemExit as end:
        return Outcome(end.code or 0, sys.stdout.getvalue(), sys.stderr.getvalue())
    finally:
        sys.argv, sys.stdin, sys.stdout, sys.stderr = saved
    raise AssertionError("main() returns only by SystemExit")


@pytest.fixture(scope="session")
def basiscli() -> Callable[..., Outcome]:
    """The command line, as a function of its arguments."""
    return call


@pytest.fixture(scope="session")
def networks(tmp_path_factory) -> list[Path]:
    """Three small digits networks, trained for one epoch. Not to be changed."""
    folder = tmp_path_factory.mktemp("networks")
    done = call("train", "--seeds", 3, "--epochs", 1, "--width", 24, "--depth", 2, "--out", folder)
    assert done.code == 0, done.stderr
    return [Path(record["path"]) for record in done.records]
