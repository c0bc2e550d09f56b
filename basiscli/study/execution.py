"""Running the steps of a study: here or elsewhere, one after what it reads, and once more where that changed."""

import fcntl
import os
import platform
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from basiscli import atomic
from basiscli.errors import BadInput
from basiscli.notes import log
from basiscli.study import cluster, report, sealed
from basiscli.study.progress import Progress
from basiscli.study.steps import (
    BLOCKED,
    DONE,
    FAILED,
    NEW,
    RUNNING,
    STOPPED,
    WAITING,
    Step,
    depends,
    describe,
    hashed,
    outcome,
    reason,
    said,
    versions,
)

TRIES = 2
# Seconds between two looks whether the commands have ended.
WAITING_SECONDS = 0.05
# The commands of the steps that run in this process, and whether they are to end.
_running: set[subprocess.Popen] = set()
_ending = threading.Event()
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def run_study(folder: Path, steps: Sequence[Step], jobs: int, scheduler: str | None = None) -> Iterator[dict]:
    """Run the steps of a prepared study, write its report, and yield the records of the claims.

    Raises BadInput at the end if steps failed. See `run_steps`.
    """
    outcomes = run_steps(folder, steps, jobs, scheduler)
    yield from report.write(folder)
    log.info(f"report: {os.path.relpath(folder)}/report.html")
    require_success(folder, outcomes)


def run_steps(folder: Path, steps: Sequence[Step], jobs: int, scheduler: str | None = None) -> dict[str, dict]:
    """Run the steps of a prepared study, and return how each went, by name.

    `jobs` steps run at once on this machine, or as many as the workers of a Dask scheduler take. Notes say how each
    step went, why it ran again, and how long the rest takes.
    """
    executor, slots, threads = _executor(steps, jobs, scheduler)
    log.info(f"{len(steps)} steps in {os.path.relpath(folder)}; whatever stops it, the same command goes on")
    with Progress(folder, steps, slots) as progress:
        outcomes = progress.outcomes
        for step, ended in walk(folder, steps, executor, slots, threads):
            outcomes[step.name] = ended
            if not ended.get("reused"):
                log.info(f"[{len(outcomes)}/{len(steps)}] {_told(step, ended)}{progress.left()}")
    return outcomes


def require_success(folder: Path, outcomes: Mapping[str, Mapping]) -> None:
    """Raise BadInput that names the steps that failed."""
    if failed := [name for name, ended in outcomes.items() if ended["status"] == FAILED]:
        raise BadInput(
            f"{len(failed)} of {len(outcomes)} steps failed: {', '.join(failed)}; see {os.path.relpath(folder)}/logs"
        )


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
    waiting = dict(by_name)
    running: dict[Future, Step] = {}
    outcomes: dict[str, dict] = {}
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
                outcomes[step.name] = _ended(folder, step, future)
                yield step, outcomes[step.name]


def execute(folder: Path, step: Step, inputs: Mapping[str, str], threads: int | None = None) -> dict:
    """Run a step unless it was done with the same command, inputs and versions; return how it went, and `why` it ran.

    inputs: the SHA-256 of each file that it reads. Whoever else has the step in hand is waited for: its lock is held by
    the command itself, so it outlives a killed study. A step that fails is tried once more.
    """
    with _lock(folder / f"steps/{step.name}.lock") as lock:
        needs = depends(step, inputs, folder)
        key, before = hashed(needs), _before(folder, step)
        why = reason(folder, before, needs)
        if why is None:
            return before | {"reused": True}
        if before.get("key", key) != key:
            _forget(folder, step)
        began = time.time()
        state = {"step": step.name, "key": key, "command": step.command, "began": began}
        state |= {"why": why, "depends": needs, "host": platform.node(), "process": os.getpid()}
        for tries in range(1, TRIES + 1):
            _keep(folder, step, state | {"status": RUNNING, "tries": tries})
            code, cpu = _run(folder, step, lock, threads)
            if code == 0 or _ending.is_set():
                break
        if _ending.is_set() and code:
            return before | {"status": STOPPED}  # so it says by itself, since nothing holds its lock
        state |= {"seconds": round(time.time() - began, 3), "processor_seconds": round(cpu, 3)}
        state |= {"tries": tries, "versions": versions()}
        if code == 0:
            state |= {"status": DONE, "files": {path: describe(folder / path) for path in (*step.files, step.records)}}
        else:
            state |= {"status": FAILED, "error": said(folder, step) or f"exit code {code}"}
        return _keep(folder, step, state)


def end_steps() -> None:
    """Tell the commands of the running steps to save and end, and wait for them; a second Ctrl-C waits no longer."""
    _ending.set()
    with suppress(KeyboardInterrupt):
        for process in list(_running):
            if process.stdin:
                process.stdin.close()
        while _running:
            time.sleep(WAITING_SECONDS)


def _executor(steps: Sequence[Step], jobs: int, scheduler: str | None) -> tuple:
    """Return who runs a step, how many steps are in hand at once (None: as the workers can), and a step's threads."""
    if scheduler is None:
        pool = ThreadPoolExecutor(jobs)  # a thread for each running command
        return (lambda step: pool), jobs, max(1, (os.cpu_count() or 1) // jobs)
    executor = cluster.connect(scheduler)
    if waiting := cluster.unmet(scheduler, steps):
        log.warning(f"no worker of {scheduler} has the resources of {', '.join(waiting)}; they wait for one that does")
    return executor, None, None


def _told(step: Step, ended: Mapping) -> str:
    if ended["status"] != DONE:
        return f"{step.name} {ended['status']}: {ended['error']}"
    again = "" if ended["why"] == NEW else f", again: {ended['why']}"
    return f"{step.name} {ended['seconds']:.1f} s{again}"


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
            _running.add(process)
            with process.stdin or nullcontext():  # open as long as this process lives
                _, ended, usage = os.wait4(process.pid, 0)
            _running.discard(process)
        code = process.returncode = os.waitstatus_to_exitcode(ended)
        if code:
            raise _Failed
    return code, usage.ru_utime + usage.ru_stime


class _Failed(Exception):
    """The command of a step failed: its records are not to take their name."""


def _ended(folder: Path, step: Step, future: Future) -> dict:
    """Return what a future holds; a step has failed, too, if its workers all died or its disk is full."""
    try:
        return future.result()
    except Exception as error:
        told = f"{error.filename or folder}: {error.strerror}" if isinstance(error, OSError) else None
        state = _before(folder, step) | {"status": FAILED, "error": told or f"{type(error).__name__}: {error}"}
        with suppress(OSError):
            _keep(folder, step, state)
        return state


def _before(folder: Path, step: Step) -> dict:
    """Return how a step went before; one whose state is damaged has not run."""
    try:
        return outcome(folder, step)
    except BadInput:
        return {"status": WAITING}


def _keep(folder: Path, step: Step, state: Mapping) -> dict:
    sealed.write(folder / f"steps/{step.name}.json", state)
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
