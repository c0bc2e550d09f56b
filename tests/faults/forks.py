"""Commands in processes of their own: forked from this one, which has imported and compiled all, or started anew."""

import contextlib
import gc
import io
import os
import resource
import runpy
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

from basiscli.cli.group import main
from basiscli.study import execution
from tests.faults.shim import Control

T = TypeVar("T")
# Seconds of processor time, and seconds in all, after which a command hangs.
PROCESSOR_SECONDS, SECONDS = 20, 600
# The memory that a command may take beside what this process has.
MEMORY = 1 << 30


@dataclass(frozen=True)
class Outcome:
    """How a command ended. code: negative for a signal, as of subprocess."""

    code: int
    stdout: str
    stderr: str
    seconds: float
    hung: bool = False

    @property
    def last_line(self) -> str:
        """The last line of stderr."""
        return (self.stderr.splitlines() or [""])[-1]


@dataclass(frozen=True)
class Running:
    """A command that runs."""

    process: int
    stdout: int
    stderr: int
    began: float

    def send(self, number: int) -> None:
        """Send a signal, unless the command has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process, number)

    def wait(self, seconds: float = SECONDS) -> bool:
        """Whether the command ends within some seconds."""
        descriptor = os.pidfd_open(self.process)
        try:
            return bool(select.select([descriptor], [], [], seconds)[0])
        finally:
            os.close(descriptor)

    def ended(self) -> Outcome:
        """Wait for the end, or make one of a command that hangs."""
        over = not self.wait()
        if over:
            os.kill(self.process, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])
        texts = []
        for descriptor in (self.stdout, self.stderr):
            os.lseek(descriptor, 0, os.SEEK_SET)
            with os.fdopen(descriptor, "rb") as file:
                texts.append(file.read().decode(errors="replace"))
        return Outcome(code, texts[0], texts[1], time.monotonic() - self.began, over or code == -signal.SIGXCPU)


def start(words: Sequence[str], folder: Path, control: Control | None = None, anew: bool = False) -> Running:
    """Start `basiscli WORDS` in a folder, forked from this process or `anew`."""
    stdout, stderr = os.memfd_create("stdout"), os.memfd_create("stderr")
    began = time.monotonic()
    if anew:
        environment = dict(os.environ) | ({"BASISCLI_FAULTS": str(control.path)} if control else {})
        process = subprocess.Popen(
            [sys.executable, "-m", "basiscli", *words], cwd=folder, stdin=subprocess.DEVNULL, stdout=stdout,
            stderr=stderr, env=environment,
        )  # fmt: skip
        process.returncode = 0  # `Running` waits for it
        return Running(process.pid, stdout, stderr, began)
    process_id = os.fork()
    if not process_id:
        _become(words, folder, control, stdout, stderr)
    return Running(process_id, stdout, stderr, began)


def run(words: Sequence[str], folder: Path, control: Control | None = None, anew: bool = False) -> Outcome:
    """Run `basiscli WORDS` in a folder to its end."""
    return start(words, folder, control, anew).ended()


def here(words: Sequence[str], folder: Path) -> Outcome:
    """Run `basiscli WORDS` in this process, which `children` made and ends if it hangs."""
    began = time.monotonic()
    for descriptor in (1, 2):
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
    _use_streams()
    os.chdir(folder)
    sys.argv = ["basiscli", *words]
    code = _code(main)
    texts = [os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode(errors="replace") for descriptor in (1, 2)]
    return Outcome(code, texts[0], texts[1], time.monotonic() - began)


def children(do: Callable[[T], str], items: Sequence[T], many: int) -> Iterator[tuple[T, str | None, bool]]:
    """Yield each item with `do(item)`, done in a child process that goes on with the next, for so `many` items.

    Instead of the result comes None if the child died, and whether it did so because it took too long.
    """
    waiting = list(items)
    while waiting:
        read, write = os.pipe()
        child = os.fork()
        if not child:
            os.close(read)
            _do_all(do, waiting[:many], write)
        os.close(write)
        with os.fdopen(read, "rb", buffering=0) as answers:
            for item in waiting[:many]:
                ready = _answers(answers, child)
                answer = _line(answers) if ready else b""
                if not ready:
                    os.kill(child, signal.SIGKILL)
                waiting.pop(0)
                yield item, answer.decode() if answer else None, not ready
                if not answer:
                    break
        os.waitpid(child, 0)


def _answers(answers: io.FileIO, child: int) -> bool:
    """Whether a child answers before it has taken too long for one item."""
    began, used = time.monotonic(), _processor_seconds(child)
    while not select.select([answers], [], [], 1)[0]:
        if _processor_seconds(child) - used > PROCESSOR_SECONDS or time.monotonic() - began > SECONDS:
            return False
    return True


def _processor_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _line(answers: io.FileIO) -> bytes:
    """Return the line that was begun, without its end; empty if its writer died."""
    line = b""
    while not line.endswith(b"\n"):
        if not (part := answers.read(1)):
            return b""
        line += part
    return line[:-1]


def _do_all(do: Callable[[T], str], items: Sequence[T], answers: int) -> None:
    try:
        for number in (1, 2):
            os.dup2(os.memfd_create("stream"), number)
        _limit_memory()
        for item in items:
            os.write(answers, do(item).encode() + b"\n")
    finally:
        os._exit(0)


class ForkedStep:
    """A step of a study, in the place of `subprocess.Popen`: forked from the study instead of started anew."""

    def __init__(self, words: Sequence[str], **how: Any) -> None:
        read, write = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            _become_step(words[3:], read, how)
        os.close(read)
        self.stdin = os.fdopen(write, "wb")
        self.returncode: int | None = None


def fork_steps() -> None:
    """Let studies in this process, and in all that are forked from it, fork their steps."""
    execution.subprocess = SimpleNamespace(Popen=ForkedStep, PIPE=subprocess.PIPE)  # type: ignore[assignment]


def settle() -> None:
    """Make this process cheap to fork: nothing that it has now is ever looked at by the garbage collector."""
    gc.collect()
    gc.freeze()


def _become(words: Sequence[str], folder: Path, control: Control | None, stdout: int, stderr: int) -> None:
    """Be the command, in a process that was just forked."""
    code = 70
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((null, 0), (stdout, 1), (stderr, 2)):
            os.dup2(source, target)
        _use_streams()
        os.chdir(folder)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CPU, (PROCESSOR_SECONDS, PROCESSOR_SECONDS + 1))
        _limit_memory()
        sys.argv = ["basiscli", *words]
        if control:
            control.use()
        code = _code(main)
    finally:
        os._exit(code)


def _become_step(words: Sequence[str], stdin: int, how: Mapping[str, Any]) -> None:
    """Be the step of a study, in a process that was just forked: with the files of one that was started anew."""
    code = 70
    try:
        os.setsid()
        for source, target in ((stdin, 0), (how["stdout"].fileno(), 1), (how["stderr"].fileno(), 2)):
            os.dup2(source, target)
        first = 3
        for kept in (*sorted(how["pass_fds"]), os.sysconf("SC_OPEN_MAX")):
            os.closerange(first, kept)
            first = kept + 1
        _use_streams()
        os.chdir(how["cwd"])
        os.environ.update(how["env"])
        sys.argv = ["basiscli", *words]
        code = _code(lambda: runpy.run_module("basiscli.cli.follow", run_name="__main__"))
    finally:
        os._exit(code)


def _use_streams() -> None:
    sys.stdin, sys.stdout, sys.stderr = (
        io.TextIOWrapper(io.FileIO(number, mode, closefd=False), "utf-8", write_through=number == 2)
        for number, mode in ((0, "r"), (1, "w"), (2, "w"))
    )


def _code(command: Callable[[], object]) -> int:
    """Run a command line that stands in sys.argv, and return the code that its process ends with."""
    try:
        command()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:
        traceback.print_exc()
        code = 1
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        code = 120
    return code


def _limit_memory() -> None:
    """Let this process have `MEMORY` more than it has now, and leave no core when it dies."""
    limit = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
