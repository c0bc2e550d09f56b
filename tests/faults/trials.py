"""The trials: one damage, one failing call, one kill, one pair of commands, each judged."""

import errno
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from basiscli.errors import BadInput
from basiscli.files.networks import load_network
from tests.faults import forks, shim
from tests.faults.damage import RESEALED, damage
from tests.faults.shim import Control, Fault
from tests.faults.world import COMPANIONS, READERS, WRITERS, Reading, Writing, content, contents, furnish

# What a trial may end in. unclear: anything but one clear line where there is no result.
CLEAN, SILENT, UNCLEAR, HANG, LOST = VERDICTS = "clean", "silent", "traceback", "hang", "lost"
SIBLINGS = {"nets/seed0.h5": "other/seed0.h5", "part/seed0.h5": "part/seed1.h5", "acts/a.h5": "acts/b.h5"}
# The part of disturbed commands that are processes of their own, not forked from this one.
ANEW = 0.03
# Files that say when, where and how often something was done.
VOLATILE = re.compile(r"(^|/)(steps|logs)/|report\.html$")
# A command says at most so many lines when it is stopped.
LINES = 3


@dataclass(frozen=True)
class Verdict:
    """How a trial ended, and what there is to know about it."""

    verdict: str
    told: str


@dataclass
class Bench:
    """The place of trials: the world, a folder for each trial in turn, and what commands do undisturbed."""

    world: Path
    place: Path
    control: Control | None = None
    known: dict = field(default_factory=dict)
    run: Callable[..., forks.Outcome] = forks.run

    @property
    def folder(self) -> Path:
        """The folder of a trial."""
        return self.place / "trial"

    def clear(self) -> None:
        """Empty the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)

    def furnish(self, writing: Writing) -> dict[str, str]:
        """Make the folder ready for a command that writes, and return the hashes of what lies there."""
        self.clear()
        furnish(self.world, self.folder, writing.inputs)
        for target, source in writing.old.items():
            (self.folder / target).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(self.world / source, self.folder / target)
        return contents(self.folder)

    def reading(self, file: str, reading: Reading) -> tuple[forks.Outcome, dict[str, str]]:
        """Return how a command ends that reads the whole file, and the hashes of its outputs."""
        if (file, reading) not in self.known:
            self.clear()
            furnish(self.world, self.folder, (*reading.inputs, file))
            outcome = forks.run(reading.words, self.folder)
            assert outcome.code == 0, outcome.stderr
            self.known[file, reading] = outcome, _outputs(self.folder, reading.outputs)
        return self.known[file, reading]

    def writing(self, writing: Writing) -> tuple[forks.Outcome, dict[str, str], int]:
        """Return how a command that writes ends, the hashes of all files after it, and its calls of the system."""
        if writing.name not in self.known:
            self.furnish(writing)
            if self.control:
                self.control.set(self.folder, shim.NOTHING)
            outcome = forks.run(writing.words, self.folder, self.control)
            assert outcome.code == 0, outcome.stderr
            calls = self.control.count if self.control else 0
            self.known[writing.name] = outcome, contents(self.folder), calls
        return self.known[writing.name]


def damages(bench: Bench, rng: np.random.Generator) -> Verdict:
    """Damage a file, and read it by `show` or `report` and by another command."""
    files = list(READERS)
    file = files[rng.choice(len(files), p=_weights(files))]
    readings = READERS[file]
    chosen = [readings[0], readings[int(rng.integers(1, len(readings)))]] if len(readings) > 1 else [readings[0]]
    expected = [bench.reading(file, reading) for reading in chosen]
    told, damaged = "", b""
    for reading, whole in zip(chosen, expected, strict=True):
        bench.clear()
        furnish(bench.world, bench.folder, (*reading.inputs, file))
        target = bench.folder / file
        if not damaged:
            told = damage(target, bench.world / SIBLINGS.get(file, file), rng)
            damaged = target.read_bytes()
        target.write_bytes(damaged)
        before = contents_but(bench.folder, file)
        outcome = bench.run(reading.words, bench.folder)
        verdict = _read(bench.folder, file, reading, outcome, whole, before)
        if verdict.verdict != CLEAN and not (verdict.verdict == SILENT and told.startswith(RESEALED)):
            return Verdict(verdict.verdict, f"{file}: {told}; {' '.join(reading.words)[:120]}: {verdict.told}")
    return Verdict(CLEAN, f"{file}: {told}")


def io(bench: Bench, rng: np.random.Generator) -> Verdict:
    """Let one call of a command fail, look at what is left, and run the command again."""
    writing = _drawn(rng)
    anew = rng.random() < ANEW
    _, _, calls = bench.writing(writing)
    action = int(rng.choice([shim.ONCE, shim.ONCE, shim.FROM_THEN_ON, shim.SHORT]))
    code = errno.ENOSPC if action == shim.FROM_THEN_ON else int(rng.choice([errno.EIO, errno.ENOSPC, errno.EINTR]))
    fault = Fault(int(rng.integers(1, max(calls, 1) + 1)), action, code)
    before = bench.furnish(writing)
    assert bench.control, "the shim is not loaded"
    bench.control.set(bench.folder, fault)
    outcome = forks.run(writing.words, bench.folder, bench.control, anew)
    fault_told = f"{writing.name}: {fault} ({bench.control.fired or 'not reached'})"
    problem = _ended(bench, outcome) if outcome.code else None
    return _after(bench, writing, before, problem, fault_told, succeeded=not outcome.code)


def kills(bench: Bench, rng: np.random.Generator) -> Verdict:
    """Kill a command at a call or at a moment, look at what is left, and run the command again."""
    writing = _drawn(rng)
    number = signal.SIGKILL if rng.random() < 0.7 else signal.SIGTERM
    anew = rng.random() < ANEW
    whole, _, calls = bench.writing(writing)
    before = bench.furnish(writing)
    if bench.control and rng.random() < 0.7 and not anew:
        action = int(rng.choice([shim.SIGNAL_BEFORE, shim.SIGNAL_AFTER]))
        fault = Fault(int(rng.integers(1, calls + 1)), action, number)
        bench.control.set(bench.folder, fault)
        outcome, told = forks.run(writing.words, bench.folder, bench.control), str(fault)
    else:
        running = forks.start(writing.words, bench.folder, anew=anew)
        moment = rng.uniform(0, whole.seconds + (1.5 if anew else 0))
        time.sleep(moment)
        running.send(number)
        outcome, told = running.ended(), f"{number.name} after {moment:.2f} s"
    problem = _stopped(bench, outcome, number) if outcome.code else None
    return _after(bench, writing, before, problem, f"{writing.name}: {told}", succeeded=not outcome.code)


def pairs(bench: Bench, rng: np.random.Generator) -> Verdict:
    """Run two commands on one folder at once; never both may fail, and what they leave is whole."""
    first = _drawn(rng)
    companion = COMPANIONS.get(first.name) if rng.random() < 0.3 else None
    whole, expected, _ = bench.writing(first)
    before = bench.furnish(first)
    running = [forks.start(first.words, bench.folder)]
    time.sleep(rng.uniform(0, 0.5 * whole.seconds) * (rng.random() < 0.7))
    running.append(forks.start(companion or first.words, bench.folder))
    outcomes = [one.ended() for one in running]
    told = f"{first.name} and {companion or 'itself'}: {[outcome.code for outcome in outcomes]}"
    if any(outcome.hung for outcome in outcomes):
        return Verdict(HANG, told)
    failed = [outcome for outcome in outcomes if outcome.code]
    for outcome in failed:
        if problem := _ended(bench, outcome):
            return Verdict(UNCLEAR, f"{told}: {problem}")
    if len(failed) == 2 or (companion and outcomes[0].code):
        return Verdict(LOST, f"{told}: {' / '.join(outcome.last_line for outcome in failed)}")
    wrong = _wrong(bench.folder, {**before, **expected}, [expected])
    return Verdict(LOST, f"{told}: {wrong}") if wrong else Verdict(CLEAN, told)


KINDS: Mapping[str, Callable[[Bench, np.random.Generator], Verdict]] = {
    "damages": damages, "kills": kills, "io": io, "pairs": pairs,
}  # fmt: skip


def expectations(bench: Bench, kinds: Iterable[str]) -> dict:
    """Find out, once for all workers, what the commands of some kinds of trials do undisturbed."""
    if "damages" in kinds:
        for file, readings in READERS.items():
            for reading in readings:
                bench.reading(file, reading)
    if set(kinds) - {"damages"}:
        for writing in WRITERS:
            bench.writing(writing)
    return bench.known


def contents_but(folder: Path, *names: str) -> dict[str, bytes]:
    """Return the bytes of all files below a folder but those with some names, by path."""
    found = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if name not in names}


def clear(line: str) -> bool:
    """Whether a line is an error that a user can act on."""
    return line.startswith("basiscli: error: ") and not line.startswith("basiscli: error: unexpected ")


def _weights(files: Sequence[str]) -> np.ndarray:
    """Networks are damaged most, and what is read in longer time least."""
    weights = np.array([0.2 if name.startswith(("rotated", "study")) else 1.0 for name in files])
    weights[files.index("nets/seed0.h5")] = 2
    return weights / weights.sum()


def _drawn(rng: np.random.Generator) -> Writing:
    weights = np.array([writing.weight for writing in WRITERS])
    return WRITERS[rng.choice(len(WRITERS), p=weights / weights.sum())]


def _outputs(folder: Path, names: Sequence[str]) -> dict[str, str]:
    """Return the hashes of the files that a command wrote; of a folder: of the networks in it."""
    paths: list[Path] = []
    for name in names:
        paths += sorted((folder / name).rglob("*.h5")) if (folder / name).is_dir() else [folder / name]
    return {str(path.relative_to(folder)): content(path) for path in paths if path.exists()}


def _read(folder, file, reading, outcome, whole, before) -> Verdict:
    """Judge how a damaged file was read: with the result of the whole file, or refused with a line that names it."""
    expected, outputs = whole
    if outcome.hung:
        return Verdict(HANG, "")
    after = contents_but(folder, file)
    for name, old in before.items():
        written = name.startswith(("study/", *reading.outputs))
        if not written and after.get(name) != old:
            return Verdict(LOST, f"{name} changed")
    if outcome.code == 0:
        if _comparable(outcome.stdout) != _comparable(expected.stdout):
            return Verdict(SILENT, _difference(expected.stdout, outcome.stdout))
        different = [name for name, seen in outputs.items() if _outputs(folder, [name]).get(name) != seen]
        return Verdict(SILENT, f"another {different[0]}") if different else Verdict(CLEAN, "")
    if outcome.code != 1 or not clear(outcome.last_line) or "Traceback" in outcome.stderr:
        return Verdict(UNCLEAR, f"{outcome.code}: {outcome.last_line[:300]}")
    if Path(file).name not in outcome.last_line and file.partition("/")[0] not in outcome.last_line:
        return Verdict(UNCLEAR, f"names no file: {outcome.last_line[:300]}")
    if len(outcome.last_line) > 1000:
        return Verdict(UNCLEAR, f"a line of {len(outcome.last_line)} characters")
    return Verdict(CLEAN, "refused")


def _comparable(stdout: str) -> str:
    """Leave out of a record how large the file is, and how long ago and how quickly a step ran."""
    return re.sub(r'"(bytes|seconds|left)": [\d.]+', "", stdout)


def _difference(expected: str, seen: str) -> str:
    k = next((k for k, (a, b) in enumerate(zip(expected, seen, strict=False)) if a != b), min(len(expected), len(seen)))
    return f"{expected[max(0, k - 40) : k + 30]!r} became {seen[max(0, k - 40) : k + 30]!r}"


def _ended(bench: Bench, outcome: forks.Outcome) -> str | None:
    """Return what is wrong with how a command failed, None if it said so in a clear line that names a file."""
    if outcome.hung:
        return HANG
    if outcome.code != 1 or not clear(outcome.last_line) or "Traceback" in outcome.stderr:
        return f"{outcome.code}: {outcome.last_line[:300]!r}"
    names = {path.name for path in bench.folder.rglob("*")} | {"new", "new.h5", "new.png", "applied.h5", "activations"}
    if not any(name in outcome.last_line for name in names):
        return f"names no file: {outcome.last_line[:300]}"
    return None


def _stopped(bench: Bench, outcome: forks.Outcome, number: int) -> str | None:
    """Return what is wrong with how a command ended on a signal."""
    if outcome.hung:
        return HANG
    if number == signal.SIGKILL:
        return None if outcome.code == -number else f"{outcome.code} after SIGKILL: {outcome.last_line}"
    said = [
        line
        for line in outcome.stderr.splitlines()
        if not re.match(r"basiscli: (epoch|\[|new|\d+ steps|width|\S*width)", line)
    ]
    if outcome.code not in (-signal.SIGTERM, 128 + signal.SIGTERM, 130) or "Traceback" in outcome.stderr:
        return f"{outcome.code} after SIGTERM: {outcome.last_line[:200]!r}"
    if len(said) > LINES:
        return f"{len(said)} lines after SIGTERM"
    left = [path.name for path in bench.folder.rglob("*.partial")]
    return f"SIGTERM left {left[0]}" if left and outcome.code > 0 else None


def _after(bench, writing, before, problem, told, succeeded) -> Verdict:
    """Judge what a disturbed command left, and what the same command does afterwards."""
    whole, expected, _ = bench.writing(writing)
    if problem:
        return Verdict(HANG if problem == HANG else UNCLEAR, f"{told}: {problem}")
    if succeeded and (wrong := _wrong(bench.folder, expected, [expected])):
        return Verdict(SILENT, f"{told}: {wrong}")
    if wrong := _wrong(bench.folder, before, [before, expected], stopped=True, growing=writing.growing):
        return Verdict(LOST, f"{told}: {wrong}")
    again = forks.run(writing.words, bench.folder)
    if again.hung:
        return Verdict(HANG, f"{told}: again")
    if again.code or sorted(again.stdout.splitlines()) != sorted(whole.stdout.splitlines()):
        return Verdict(LOST, f"{told}: again {again.code}: {again.last_line[:300]}")
    wrong = _wrong(bench.folder, expected, [expected])
    return Verdict(LOST, f"{told}: again: {wrong}") if wrong else Verdict(CLEAN, told)


def _wrong(
    folder: Path,
    needed: Iterable[str],
    allowed: Sequence[Mapping[str, str]],
    stopped: bool = False,
    growing: bool = False,
) -> str | None:
    """Return what is wrong with the files in a folder, None if nothing is.

    needed: files that must be there. allowed: the hashes that files may have, by path. stopped: something may be left
    under a temporary name. growing: networks may be unfinished.
    """
    found = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}
    for name in needed:
        if name not in found and not VOLATILE.search(name):
            return f"{name} is not there"
    for name, path in found.items():
        if VOLATILE.search(name) or (stopped and name.endswith(".partial")):
            continue
        fine = content(path) in [hashes.get(name) for hashes in allowed]
        if not fine and not (growing and stopped and _is_network(path)):
            return f"{name} is neither what it was nor what it should be"
    return None


def _is_network(path: Path) -> bool:
    """Whether a file is a whole network, at whatever epoch."""
    if path.suffix != ".h5":
        return False
    try:
        return load_network(path).status in ("unfinished", "done")
    except BadInput:
        return False
