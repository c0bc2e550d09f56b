"""The steps of a study: command lines with what they read and write, known again by a hash (docs/study.md).

A study's folder holds study.json (the steps), steps/NAME.json (how each went), records/NAME.jsonl (what it printed) and
logs/NAME.log (its stderr), besides the files of the steps themselves.
"""

import fcntl
import hashlib
import json
import os
import re
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from graphlib import TopologicalSorter
from itertools import pairwise
from pathlib import Path
from typing import Any

from basiscli import atomic
from basiscli.errors import BadInput
from basiscli.study import sealed

DONE, FAILED, BLOCKED, RUNNING, STOPPED, WAITING = STATES = (
    "done", "failed", "blocked", "running", "stopped", "waiting"
)  # fmt: skip
# Names of steps name files, too.
NAME = re.compile(r"(?!\.)[\w.-]+")
# What a step may run, and the options that say where it writes.
RUNS = {"train", "record", "correlate", "match", "interpolate", "merge", "transform", "rotate", "freeze",
        "connectivity", "evolve", "show", "data"}  # fmt: skip
WRITES = {"out", "plot", "apply"}
# How much of a log is read for its last line.
LAST_BYTES = 4096
# Why a step runs that never ran.
NEW = "it has not run"


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
    """Make the folder of a study, or bring it up to a changed plan.

    Raises BadInput for a folder that is not of a study and holds other files under the names of a study's.
    """
    if not (folder / "study.json").exists():
        for path in (folder / "plan.toml", folder / "report.html", folder / "results.json"):
            if path.exists() and path.read_bytes() != plan.encode():
                raise BadInput(f"{path}: is not of this study; choose another `out`")
    for part in ("steps", "records", "logs"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    atomic.write_text(folder / "plan.toml", plan)
    digest = describe(folder / "plan.toml")["sha256"]
    sealed.write(folder / "study.json", {"name": name, "plan": digest, "steps": [asdict(step) for step in steps]})


def load(folder: Path) -> tuple[str, list[Step]]:
    """Return the name and the steps of the study in a folder.

    Study folders are passed around, so nothing in study.json is trusted: a step runs a command of basiscli, and all
    that it names or writes lies within the folder. Raises BadInput if there is no study, if study.json or plan.toml is
    damaged, or for such a step.
    """
    try:
        study = sealed.read(folder / "study.json")
        steps = [_step(fields) for fields in study["steps"]]
        name, texts = str(study["name"]), [text for step in steps for text in (step.name, *step.words, *step.files)]
        if not all(isinstance(text, str) for text in texts):
            raise TypeError("a name or a word of a step is no text")
    except BadInput as error:
        raise BadInput(f"{error}; make the study anew from its plan") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(
            f"{folder}: holds no study (study.json); `basiscli study` makes one in the folder `out`"
        ) from error
    plan = folder / "plan.toml"
    if "plan" in study and not (plan.is_file() and describe(plan)["sha256"] == study["plan"]):
        raise BadInput(f"{folder}/plan.toml: is not the plan of study.json; make the study anew from its plan")
    for step in steps:
        if fault := _outside(step):
            raise BadInput(f"{folder}/study.json: step {step.name}: {fault}; make the study anew from its plan")
    return name, steps


def _step(fields: Mapping[str, Any]) -> Step:
    known: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()}
    return Step(**known)


def _outside(step: Step) -> str | None:
    """Return what a step would do that no step of a plan does, None if there is nothing."""
    if not NAME.fullmatch(step.name):
        return "a name with other characters than letters, digits, dots and dashes"
    if not step.words or step.words[0] not in RUNS:
        return f"runs {' '.join(step.words[:1]) or 'nothing'}, which no step of a plan runs"
    options = [(word.lstrip("-").partition("="), value) for word, value in pairwise((*step.words, ""))]
    written = [inside if equals else value for (name, equals, inside), value in options if name in WRITES]
    for path in (*written, *step.files, *([step.folder] if step.folder else [])):
        if Path(path).is_absolute() or ".." in Path(path).parts or Path(path) == Path():
            return f"writes {path or 'its own folder'}, outside of the folder of the study"
    return None


def depends(step: Step, inputs: Mapping[str, str], folder: Path) -> dict:
    """Return what the result of a step depends on: its words, the contents of its inputs and data sets, the versions.

    inputs: the SHA-256 of each file that it reads.
    """
    outside = {word: describe(folder / word)["sha256"] for word in step.words if _is_data(word)}
    inputs = dict(sorted(inputs.items()))
    return {"words": list(step.words), "inputs": inputs, "data": outside, "versions": versions()}


def hashed(needs: Mapping) -> str:
    """Return the hash by which a step is known again, of what it depends on."""
    return hashlib.sha256(json.dumps(list(needs.values())).encode()).hexdigest()


def reason(folder: Path, before: Mapping, needs: Mapping) -> str | None:
    """Return why a step is to run, None if it need not.

    before: how it went. needs: what it depends on now.
    """
    if before["status"] == WAITING:
        return NEW
    if before.get("key", key := hashed(needs)) != key:
        return changes(before["depends"], needs) if "depends" in before else "its command, inputs or versions changed"
    if before["status"] != DONE:
        return "it failed" if before["status"] == FAILED else "it was stopped"
    other = touched(folder, before["files"])
    return f"{other} is not what it wrote" if other else None


def changes(before: Mapping, now: Mapping) -> str:
    """Say what differs between what a step depended on and what it depends on now."""
    old, new = _options(before["words"]), _options(now["words"])
    told = [_option_change(name, old.get(name), new.get(name)) for name in old | new if old.get(name) != new.get(name)]
    for what in ("inputs", "data"):
        changed = [path for path, digest in now[what].items() if before[what].get(path) not in (None, digest)]
        if changed:
            more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
            told.append(f"{changed[0]}{more} changed")
    for name, version in now["versions"].items():
        if (known := before["versions"].get(name)) != version:
            told.append(f"{name} {version}, was {known or 'absent'}")
    return "; ".join(told) or "it depends on other files"


def reasons(folder: Path, steps: Sequence[Step]) -> dict[str, str | None]:
    """Return why each step would run if the study ran now, by name; None for one that is done or runs already."""
    by_name = {step.name: step for step in steps}
    found: dict[str, str | None] = {}
    unsettled = set()
    for name in TopologicalSorter({step.name: step.after for step in steps}).static_order():
        step, before = by_name[name], status(folder, by_name[name])
        again = [other for other in step.after if other in unsettled]
        if before["status"] == RUNNING:
            found[name] = None
        elif before["status"] == WAITING:
            found[name] = NEW
        elif again:
            found[name] = f"it reads {again[0]}, which runs again"
        else:
            found[name] = reason(folder, before, depends(step, _inputs(folder, step, by_name), folder))
        if found[name] or before["status"] == RUNNING:
            unsettled.add(name)
    return found


def states(folder: Path, steps: Sequence[Step], jobs: int) -> Iterator[dict]:
    """Yield a record a step, and one of the whole with the remaining time if so many steps run at once."""
    found, why = {step.name: status(folder, step) for step in steps}, reasons(folder, steps)
    for step in steps:
        state = found[step.name]
        if state["status"] == DONE and why[step.name]:  # its files are gone, or it would run again
            state["status"] = WAITING
        running = state["status"] == RUNNING
        seconds = round(time.time() - state["began"], 1) if running else state.get("seconds")
        yield {
            "step": step.name, "status": state["status"], "seconds": seconds, "left": None,
            "tries": state.get("tries"), "error": state.get("error"), "command": step.command,
            "why": state.get("why") if running else why[step.name],
            "says": said(folder, step) if running else None,
        }  # fmt: skip
    over = {name: state for name, state in found.items() if state["status"] in (DONE, FAILED)}
    counts = {state: sum(one["status"] == state for one in found.values()) for state in STATES}
    left = seconds_left(steps, over, jobs)
    yield {
        "step": f"{len(steps)} steps", "status": ", ".join(f"{n} {state}" for state, n in counts.items() if n),
        "seconds": round(sum(state.get("seconds", 0) for state in over.values()), 1),
        "left": None if left is None else round(left, 1), "tries": None, "error": None, "command": None, "why": None,
        "says": None,
    }  # fmt: skip


def outcome(folder: Path, step: Step) -> dict:
    """Return how a step went, as far as it has come. Raises BadInput if the file that says so is damaged."""
    try:
        state = sealed.read(folder / f"steps/{step.name}.json")
        if state.get("status") not in STATES:
            raise BadInput(f"{folder}/steps/{step.name}.json: is damaged (no status)")
        return state
    except FileNotFoundError:
        return {"status": WAITING}
    except OSError as error:
        raise BadInput(f"{error.filename}: cannot be read ({error.strerror})") from error
    except BadInput as error:
        raise BadInput(f"{error}; remove it, and `basiscli study` runs the step again") from error


def status(folder: Path, step: Step) -> dict:
    """Return `outcome`, and `stopped` for a step whose study was killed while it ran."""
    found = outcome(folder, step)
    if found["status"] == RUNNING and not _is_locked(folder / f"steps/{step.name}.lock"):
        found["status"] = STOPPED
    return found


def said(folder: Path, step: Step) -> str:
    """Return the last line of the messages of a step, such as how far its training has come; empty without any."""
    with suppress(OSError), (folder / step.log).open("rb") as log:
        log.seek(max(0, log.seek(0, os.SEEK_END) - LAST_BYTES))
        lines = log.read().decode(errors="replace").splitlines()
        return lines[-1].removeprefix("basiscli: ").removeprefix("error: ") if lines else ""
    return ""


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


def lacking(folder: Path, steps: Sequence[Step]) -> list[str]:
    """Return the steps that are not done, or whose files are gone or not what they wrote."""
    found = []
    for step in steps:
        before = outcome(folder, step)
        if before["status"] != DONE or touched(folder, before["files"]) or not (folder / step.records).exists():
            found.append(step.name)
    return found


def versions() -> dict[str, str]:
    """Return the versions that decide the bits of a result."""
    from basiscli.files import networks

    return networks.versions()


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


def _inputs(folder: Path, step: Step, by_name: Mapping[str, Step]) -> dict[str, str]:
    """Return the SHA-256 of each file that a step reads, as the steps before it wrote them."""
    before = [(by_name[name], outcome(folder, by_name[name])["files"]) for name in step.after]
    return {path: files[path]["sha256"] for one, files in before for path in one.files}


def _options(words: Sequence[str]) -> dict[str, str]:
    """Return what a command line says, by option; what precedes the first option is under the command's name."""
    said: dict[str, list[str]] = {}
    name = words[0]
    for word in words[1:]:
        name = word if word.startswith("--") else name
        said.setdefault(name, []).extend([] if word == name else [word])
    return {name: " ".join(values) for name, values in said.items()}


def _option_change(name: str, before: str | None, now: str | None) -> str:
    if now is None:
        return f"without {name}"
    if not name.startswith("--"):
        return "it reads other files"
    return f"{name} {now}".rstrip() + ("" if before is None else f", was {before}")


def touched(folder: Path, files: Mapping[str, Mapping]) -> str | None:
    """Return the first of the files that is not what it was: neither untouched, nor of the same content."""
    for path, known in files.items():
        with suppress(OSError):
            found = (folder / path).stat()
            if (found.st_size, found.st_mtime_ns) == (known["size"], known["mtime_ns"]):
                continue
            if describe(folder / path)["sha256"] == known["sha256"]:
                continue
        return path
    return None


def describe(path: Path) -> dict:
    """Return SHA-256, size and time of change of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"sha256": digest, "size": path.stat().st_size, "mtime_ns": path.stat().st_mtime_ns}
