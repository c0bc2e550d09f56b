"""All that a GPU can say of basiscli in at most nine minutes, into one folder to send in (docs/gpu.md).

    python tests/benchmarks/gpu.py --out FOLDER [--parts look,selftest-tf32] [--rehearse]

Nothing is installed, nothing is fetched: the source tree runs as it lies, with numpy, cupy, numba, h5py, click, rich,
scipy and pytest, and with PyTorch for its own columns. Each part is a process with a limit of its own. What it finds is
in the folder at once, and the short table comes last, whatever failed. --rehearse does the same in small, with the fake
GPU of the tests in the place of the card.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

# Seconds that all of it may take, and of them each part; the order is that of what is most wanted.
LIMIT = 530
PARTS = {
    "look": 40, "compile": 100, "selftest-float32": 40, "selftest-tf32": 40, "selftest-bf16": 40, "card": 100,
    "ceilings": 40, "training": 120, "layers": 90, "pytorch": 120, "profile": 50, "moments": 40, "ncu": 60,
    "sanitizer": 60,
}  # fmt: skip
# Parts whose text is worth a file of its own; the others share one.
TEXTS = {"profile": "profile.txt", "ncu": "ncu.txt", "sanitizer": "sanitizer.txt"}
LOG, TABLE = "log.txt", "report.md"
MISSING = ("platformdirs", "pooch", "distributed")  # in a rehearsal
LOST = 3  # the exit code of a part that has lost the card


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("gpu-results"), help="Folder of at most eight files.")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"Some of {','.join(PARTS)}.")
    parser.add_argument("--rehearse", action="store_true", help="Without a card, in small.")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--after", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.out = options.out.resolve()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.part:
        from tests.benchmarks.card.parts import work

        return work(options)
    with tempfile.TemporaryDirectory() as folder:
        tree = source_tree(Path(folder))
        if options.rehearse:
            forbid(tree, MISSING)
        return conduct(options, tree)


def source_tree(folder: Path) -> Path:
    """Return a folder to import basiscli from, without installation: links to the package and its two wings outside."""
    package = folder / "basiscli"
    package.mkdir()
    for entry in (ROOT / "basiscli").iterdir():
        if entry.name not in ("kernels", "data"):
            (package / entry.name).symlink_to(entry)
    for name in ("kernels", "data"):
        (package / name).symlink_to(ROOT / name)
    return folder


def forbid(folder: Path, names: tuple[str, ...]) -> None:
    """Have packages missing that a machine with a card may lack."""
    for name in names:
        (folder / f"{name}.py").write_text(f"raise ModuleNotFoundError({name!r})\n")


def conduct(options: argparse.Namespace, tree: Path) -> int:
    """Run the parts one after the other and print the table; returns 1 where there is no card."""
    records = options.out / "records.jsonl"
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(tree), str(ROOT)]), "CUPY_CACHE_DIR": str(tree / "cupy"),
        "NUMBA_CACHE_DIR": str(tree / "numba"),
        "PYTHONUNBUFFERED": "1",
    } | ({"BASISCLI_REHEARSAL": "1"} if options.rehearse else {})  # fmt: skip
    end, code = time.monotonic() + LIMIT, 0
    for name in options.parts.split(","):
        begun = time.monotonic()
        ended = run(name, options, environment, end)
        with records.open("a") as file:
            taken = time.monotonic() - begun
            file.write(json.dumps({"part": "parts", "name": name, "seconds": taken, "ended": ended}) + "\n")
        print(f"{name}: {ended}, {taken:.0f} s", file=sys.stderr, flush=True)
        (options.out / TABLE).write_text(table(records))
        if name == "look" and ended != "well":
            code = 1
            break
    print((options.out / TABLE).read_text())
    return code


def table(records: Path) -> str:
    """Return the short table, or why there is none: the records themselves are there in any case."""
    from tests.benchmarks.card.report import read, report

    try:
        return "\n".join(report(read(records))) + "\n"
    except Exception as error:
        return f"No table: {type(error).__name__}: {error}\n"


def run(name: str, options: argparse.Namespace, environment: dict, end: float) -> str:
    """Run a part, again from the next kernel on where a kernel took the card with it; returns how it ended."""
    until, after, losses = min(time.monotonic() + PARTS[name], end), None, 0
    while True:
        code = process(name, after, options, environment, until - time.monotonic())
        if code != LOST or not name.startswith("selftest"):
            break
        after, losses = last_kernel(options.out / "records.jsonl"), losses + 1
    if code is None:
        return "out of time"
    return "well" if code == losses == 0 else f"with exit code {code}" + (f", {losses} faults" if losses else "")


def process(name: str, after: str | None, options: argparse.Namespace, environment: dict, seconds: float) -> int | None:
    """Run the process of a part and return its exit code, None where its time was over; it leaves no children."""
    if seconds <= 1:
        return None
    words = [sys.executable, __file__, "--part", name, "--out", str(options.out)]
    words += ["--rehearse"] if options.rehearse else []
    words += ["--after", after] if after else []
    with (options.out / TEXTS.get(name, LOG)).open("a") as text:
        print(f"\n==== {name}", file=text, flush=True)
        child = subprocess.Popen(words, stdout=text, stderr=subprocess.STDOUT, env=environment, start_new_session=True)
        try:
            return child.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        finally:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def last_kernel(records: Path) -> str | None:
    """Return the kernel that was looked at last."""
    from tests.benchmarks.card.report import read

    return next((record["kernel"] for record in reversed(read(records)) if "kernel" in record), None)


if __name__ == "__main__":
    sys.exit(main())
