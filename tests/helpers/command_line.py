"""The command line, in this process and in a shell."""

import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

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


def done(*arguments: object, stdin: str = "") -> Outcome:
    """Run `basiscli ARGUMENTS` in this process and assert that it succeeds."""
    outcome = call(*arguments, stdin=stdin)
    assert outcome.code == 0, outcome.stderr
    return outcome


def shell(script: str, folder: Path, **variables: str) -> subprocess.CompletedProcess:
    """Run a script in bash, with this installation as `basiscli`; a pipe fails where one of its commands fails."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail\n{script}"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "PATH": path, **variables},
    )
