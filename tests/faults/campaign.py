"""The campaign: many trials on all cores, each known again by its number, so that a campaign can be resumed."""

import json
import os
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import count, groupby, islice
from operator import itemgetter
from pathlib import Path

import numpy as np

from basiscli.experiments import rotation, training_loop
from tests.faults import forks, world
from tests.faults.shim import Control
from tests.faults.trials import HANG, KINDS, UNCLEAR, VERDICTS, Bench, Verdict, expectations

# The trials of each kind in a round, if time and not their number is given.
ROUND = {"damages": 100, "kills": 10, "io": 10, "pairs": 5}
# The rounds in which a given number of trials is done.
ROUNDS = 20
RESULTS = "results.jsonl"
# Damages that one process reads.
BATCH = 25


def prepare(folder: Path) -> None:
    """Make the world in a folder unless it is there, and load all kernels that trials need into this process."""
    training_loop.CHECKPOINT_SECONDS = rotation.CHECKPOINT_SECONDS = 0  # write as often as can be
    if not (folder / "world").exists():
        forks.fork_steps()
        world.build(folder / "making")
        (folder / "making").rename(folder / "world")
    forks.fork_steps()
    world.warm(folder / "world", folder / "warm")
    forks.settle()


def run(folder: Path, seed: int, trials: Mapping[str, int] | None, seconds: float, jobs: int, shim: bool) -> None:
    """Run the trials that the results in a folder lack: so many of each kind, or in rounds for some seconds."""
    done = {(result["kind"], result["number"]) for result in results(folder, seed)}
    end = time.monotonic() + seconds
    workers = []
    known = expectations(_bench(folder, "expected", shim), trials or ROUND)
    for k in range(jobs):
        if not (worker := os.fork()):
            try:
                _work(folder, seed, _numbers(trials, k, jobs), done, end, _bench(folder, f"place{k}", shim, known))
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        workers.append(worker)
    failed = [worker for worker in workers if os.waitpid(worker, 0)[1]]
    if failed:
        raise RuntimeError(f"{len(failed)} of {jobs} workers broke")


def trial(folder: Path, seed: int, kind: str, number: int, shim: bool, place: str = "again") -> Verdict:
    """Run one trial."""
    return _tried(_bench(folder, place, shim), seed, kind, number)


def results(folder: Path, seed: int) -> list[dict]:
    """Return how all trials of a seed ended so far."""
    path = folder / RESULTS
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    latest = {(line["kind"], line["number"]): line for line in lines if line["seed"] == seed}
    return list(latest.values())


def table(found: list[dict]) -> str:
    """Return the table of a campaign, in Markdown."""
    lines = [f"| trials | tried | {' | '.join(VERDICTS)} |", f"| --- |{' ---: |' * (len(VERDICTS) + 1)}"]
    for kind in KINDS:
        counts = Counter(result["verdict"] for result in found if result["kind"] == kind)
        lines.append(f"| {kind} | {sum(counts.values())} | {' | '.join(str(counts[one]) for one in VERDICTS)} |")
    return "\n".join(lines)


def _numbers(trials: Mapping[str, int] | None, first: int, step: int) -> Iterator[tuple[str, int]]:
    """Yield the kinds and numbers of the trials of a worker, in rounds of all kinds."""
    sizes = ROUND if trials is None else {kind: -(-many // ROUNDS) for kind, many in trials.items()}
    for turn in count() if trials is None else range(ROUNDS):
        for kind, size in sizes.items():
            end = (turn + 1) * size if trials is None else min((turn + 1) * size, trials[kind])
            yield from ((kind, number) for number in range(turn * size, end) if number % step == first)


def _work(folder, seed, numbers, done, end, bench) -> None:
    """Run trials and write how they end. Damaged files are read in processes that do one after the other."""
    with (folder / RESULTS).open("a", buffering=1) as log:

        def note(kind: str, number: int, verdict: Mapping[str, str]) -> None:
            log.write(json.dumps({"seed": seed, "kind": kind, "number": number, **verdict}) + "\n")

        def left() -> Iterator[tuple[str, int]]:
            for kind, number in numbers:
                if time.monotonic() > end:
                    return
                if (kind, number) not in done and (kind != "io" or bench.control):
                    yield kind, number

        for kind, group in groupby(left(), key=itemgetter(0)):
            if kind != "damages":
                for _, number in group:
                    note(kind, number, vars(_tried(bench, seed, kind, number)))
                continue
            while batch := [number for _, number in islice(group, BATCH)]:
                for number, answer, slow in forks.children(partial(_read_damaged, bench, seed), batch, BATCH):
                    died = {"verdict": HANG if slow else UNCLEAR, "told": "the process died"}
                    note(kind, number, json.loads(answer) if answer else died)


def _read_damaged(bench: Bench, seed: int, number: int) -> str:
    return json.dumps(vars(_tried(replace(bench, run=forks.here), seed, "damages", number)))


def _bench(folder: Path, place: str, shim: bool, known: dict | None = None) -> Bench:
    here = (folder / place).resolve()
    here.mkdir(exist_ok=True)
    return Bench((folder / "world").resolve(), here, Control(here / "control") if shim else None, known or {})


def _tried(bench: Bench, seed: int, kind: str, number: int) -> Verdict:
    return KINDS[kind](bench, np.random.default_rng([seed, list(KINDS).index(kind), number]))
