"""The steps of a study: command lines with what they read and write, known again by a hash (docs/study.md).

A study's folder holds study.json (the steps), steps/NAME.json (how each went), records/NAME.jsonl (what it printed) and
logs/NAME.log (its stderr), besides the files of the steps themselves.
"""

import fcntl
import hashlib
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from basiscli import atomic
from basiscli.errors import BadInput

DONE, FAILED, BLOCKED, RUNNING, STOPPED, WAITING = STATES = (
    "done", "failed", "blocked", "running", "stopped", "waiting"
)  # fmt: skip
TRIES = 2
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


@dataclass(frozen=True, eq=False)
class Step:
    """A command line: the words after `basiscli`, the steps whose files it reads, and the files that others may read.

    resources: what a Dask worker must have for it, by name. about: what its records do not say of themselves, such as
    the width. folder: one that nothing else writes into. Paths are relative to the study's folder.
    """

    name: str
    words: tuple[str, ...]
    after: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    resources: Mapping[str, float] = field(default_factory=dict)
    about: Mapping[str, object] = field(default_factory=dict)
    folder: str | None = None

    @property
    def records(self) -> str:
        """Where its records go."""
        return f"records/{self.name}.jsonl"

    @property
    def log(self) -> str:
        """Where its messages go."""
        return f"logs/{self.name}.log"

    @property
    def command(self) -> str:
        """The step as a line for a shell, in the study's folder."""
        return f"{shlex.join(('basiscli', *self.words))} > {self.records}"


def prepare(folder: Path, name: str, plan: str, steps: Sequence[Step]) -> None:
    """Make the folder of a study, or bring it up to a changed plan."""
    for part in ("steps", "records", "logs"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    atomic.write_text(folder / "plan.toml", plan)
    atomic.write_text(
        folder / "study.json", json.dumps({"name": name, "steps": [asdict(step) for step in steps]}, indent=1)
    )


def load(folder: Path) -> tuple[str, list[Step]]:
    """Return the name and the steps of the study in a folder. Raises BadInput if there is none."""
    try:
        found = json.loads((folder / "study.json").read_text())
        steps = [
            Step(**{key: tuple(value) if isinstance(value, list) else value for key, value in one.items()})
            for one in found["steps"]
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{folder}: holds no study (study.json); `basiscli study --out {folder}` makes one") from error
    return found["name"], steps


def walk(
    folder: Path,
    steps: Sequence[Step],
    executor: Callable[[Step], Executor],
    slots: int | None = None,
    threads: int | None = None,
) -> Iterator[tuple[Step, dict]]:
    """Run the steps as soon as those before them are done, in their order; yield each with its outcome.

    executor(step) says who runs it; `slots` steps are in hand at once, None: all that can be. What comes after a failed
    step is blocked and yielded, too; nothing else stops.
    """
    by_name = {step.name: step for step in steps}
    waiting, running, outcomes = dict(by_name), {}, {}
    while waiting or running:
        for step in [step for step in waiting.values() if set(step.after) <= set(outcomes)]:
            if lost := [name for name in step.after if outcomes[name]["status"] != DONE]:
                del waiting[step.name]
                outcomes[step.name] = {"status": BLOCKED, "error": f"needs {', '.join(lost)}"}
                yield step, outcomes[step.name]
            elif slots is None or len(running) < slots:
                del waiting[step.name]
                before = [(by_name[name], outcomes[name]["files"]) for name in step.after]
                inputs = {path: files[path]["sha256"] for one, files in before for path in one.files}
                running[executor(step).submit(execute, folder, step, inputs, threads)] = step
        if running:
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                step = running.pop(future)
                outcomes[step.name] = _outcome(folder, step, future)
                yield step, outcomes[step.name]


def execute(folder: Path, step: Step, inputs: Mapping[str, str], threads: int | None = None) -> dict:
    """Run a step unless it was done with the same command, inputs and versions; return how it went.

    inputs: the SHA-256 of each file that it reads. Whoever else has the step in hand is waited for: its lock is held by
    the command itself, so it outlives a killed study. A step that fails is tried once more.
    """
    with _lock(folder / f"steps/{step.name}.lock") as lock:
        key = identity(step, inputs, folder)
        before = outcome(folder, step)
        if before.get("key") == key and before["status"] == DONE and _intact(folder, before["files"]):
            return before | {"reused": True}
        if before.get("key", key) != key:
            _forget(folder, step)
        began = time.time()
        state = {"step": step.name, "key": key, "command": step.command, "began": began}
        state |= {"host": platform.node(), "process": os.getpid()}
        for tries in range(1, TRIES + 1):
            _keep(folder, step, state | {"status": RUNNING, "tries": tries})
            code, cpu = _run(folder, step, lock, threads)
            if code == 0:
                break
        state |= {"seconds": round(time.time() - began, 3), "processor_seconds": round(cpu, 3)}
        state |= {"tries": tries, "versions": versions()}
        if code == 0:
            state |= {"status": DONE, "files": {path: _describe(folder / path) for path in (*step.files, step.records)}}
        else:
            state |= {"status": FAILED, "error": _last_line(folder / step.log) or f"exit code {code}"}
        return _keep(folder, step, state)


def identity(step: Step, inputs: Mapping[str, str], folder: Path) -> str:
    """Return the hash by which a step is known again: of its command, its inputs' contents, and the versions."""
    outside = {word: _describe(folder / word)["sha256"] for word in step.words if _is_data(word)}
    return hashlib.sha256(
        json.dumps([step.words, dict(sorted(inputs.items())), outside, versions()]).encode()
    ).hexdigest()


def outcome(folder: Path, step: Step) -> dict:
    """Return how a step went, as far as it has come."""
    try:
        return json.loads((folder / f"steps/{step.name}.json").read_text())
    except (OSError, ValueError):
        return {"status": WAITING}


def status(folder: Path, step: Step) -> dict:
    """Return `outcome`, and `stopped` for a step whose study was killed while it ran."""
    found = outcome(folder, step)
    if found["status"] == RUNNING and not _is_locked(folder / f"steps/{step.name}.lock"):
        found["status"] = STOPPED
    return found


def seconds_left(steps: Sequence[Step], outcomes: Mapping[str, Mapping], jobs: int) -> float | None:
    """Return about how long the steps without an outcome take: each as long as the mean of its command's so far.

    None while a command is left of which no step is done.
    """
    past: dict[str, list[float]] = {}
    for step in steps:
        if "seconds" in outcomes.get(step.name, {}):
            past.setdefault(step.words[0], []).append(outcomes[step.name]["seconds"])
    left = [step for step in steps if step.name not in outcomes]
    if any(step.words[0] not in past for step in left):
        return None
    return sum(sum(past[step.words[0]]) / len(past[step.words[0]]) for step in left) / jobs


def versions() -> dict[str, str]:
    """Return the versions that decide the bits of a result."""
    from basiscli.files import networks

    return networks.versions()


def _forget(folder: Path, step: Step) -> None:
    """Remove what a step wrote for another command or other inputs: training would refuse to go on with it."""
    for path in step.files:
        (folder / path).unlink(missing_ok=True)
    if step.folder:
        shutil.rmtree(folder / step.folder, ignore_errors=True)


def _run(folder: Path, step: Step, lock: int, threads: int | None) -> tuple[int, float]:
    """Run the command of a step once; return its exit code and its seconds of processor time.

    Its records take their name when it has succeeded.
    """
    for path in step.files:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
    environment = dict(os.environ) | ({name: str(threads) for name in THREADS} if threads else {})
    records = folder / step.records
    with (folder / step.log).open("wb") as stderr, suppress(_Failed), atomic.replacing(records) as partial:
        with partial.open("wb") as stdout:
            process = subprocess.Popen(
                [sys.executable, "-m", "basiscli.cli.follow", *step.words], cwd=folder, env=environment,
                stdin=subprocess.PIPE, stdout=stdout, stderr=stderr, pass_fds=(lock,), start_new_session=True,
            )  # fmt: skip
            with process.stdin:  # open as long as this process lives
                _, ended, usage = os.wait4(process.pid, 0)
        code = process.returncode = os.waitstatus_to_exitcode(ended)
        if code:
            raise _Failed
    return code, usage.ru_utime + usage.ru_stime


class _Failed(Exception):
    """The command of a step failed: its records are not to take their name."""


def _outcome(folder: Path, step: Step, future: Future) -> dict:
    """Return what a future holds; a step has failed, too, if its workers all died or its disk is full."""
    try:
        return future.result()
    except Exception as error:
        told = f"{error.filename or folder}: {error.strerror}" if isinstance(error, OSError) else None
        state = outcome(folder, step) | {"status": FAILED, "error": told or f"{type(error).__name__}: {error}"}
        with suppress(OSError):
            _keep(folder, step, state)
        return state


def _keep(folder: Path, step: Step, state: Mapping) -> dict:
    atomic.write_text(folder / f"steps/{step.name}.json", json.dumps(state, indent=1))
    return dict(state)


@contextmanager
def _lock(path: Path) -> Iterator[int]:
    """Hold a file's lock, waiting for it; the descriptor that is yielded holds it, too, in whoever inherits it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def _is_locked(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _is_data(word: str) -> bool:
    """Whether a word of a command line is a data set from outside of the study."""
    return Path(word).is_absolute() and Path(word).is_file()


def _intact(folder: Path, files: Mapping[str, Mapping]) -> bool:
    """Whether files are what they were: not touched, or of the same content."""
    for path, known in files.items():
        with suppress(OSError):
            found = (folder / path).stat()
            if (found.st_size, found.st_mtime_ns) == (known["size"], known["mtime_ns"]):
                continue
            if _describe(folder / path)["sha256"] == known["sha256"]:
                continue
        return False
    return True


def _describe(path: Path) -> dict:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"sha256": digest, "size": path.stat().st_size, "mtime_ns": path.stat().st_mtime_ns}


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    return lines[-1].removeprefix("basiscli: error: ") if lines else ""
