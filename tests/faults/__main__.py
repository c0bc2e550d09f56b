"""`python -m tests.faults --hours 1`: the campaign, which ends with its table (docs/reliability.md)."""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from tests.faults import shim

# Forked processes have no threads but their own: numba's OpenMP does not survive a fork.
ENVIRONMENT = {"NUMBA_NUM_THREADS": "1", "NUMBA_THREADING_LAYER": "workqueue", "OPENBLAS_NUM_THREADS": "1",
               "OMP_NUM_THREADS": "1"}  # fmt: skip


def main() -> int:
    """Run the campaign that the command line asks for. 1: something was not clean."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--hours", type=float, default=float("inf"), help="at most so long")
    for kind in ("damages", "kills", "io", "pairs"):
        parser.add_argument(f"--{kind}", type=int, help="so many trials (none given: in rounds, for --hours)")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**6)
    parser.add_argument("--folder", type=Path, help="where the files are made; the same folder and seed go on")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--only", nargs=2, metavar=("KIND", "NUMBER"), help="one trial; its files stay in FOLDER/again")
    asked = parser.parse_args()
    folder = asked.folder or Path(tempfile.mkdtemp(prefix="basiscli-faults-"))
    folder.mkdir(parents=True, exist_ok=True)
    _preload(folder)
    from tests.faults import campaign

    print(f"seed {asked.seed}, files in {folder}", flush=True)
    began = time.time()
    campaign.prepare(folder)
    if asked.only:
        print(campaign.trial(folder, asked.seed, asked.only[0], int(asked.only[1]), shim.loaded()))
        return 0
    trials = {kind: getattr(asked, kind) for kind in campaign.KINDS}
    given = {kind: many for kind, many in trials.items() if many is not None}
    if not given and asked.hours == float("inf"):
        parser.error("say how long (--hours) or how many (--damages, --kills, --io, --pairs)")
    campaign.run(folder, asked.seed, given or None, 3600 * asked.hours, asked.jobs, shim.loaded())
    found = campaign.results(folder, asked.seed)
    bad = [result for result in found if result["verdict"] != "clean"]
    for result in bad:
        print(f"{result['kind']} {result['number']}: {result['verdict']}: {result['told']}")
    print(f"\n{campaign.table(found)}\n\nseed {asked.seed}, {time.time() - began:.0f} s")
    return 1 if bad else 0


def _preload(folder: Path) -> None:
    """Start this program again with the shim, if there is a compiler, and without threads."""
    if all(os.environ.get(name) == value for name, value in ENVIRONMENT.items()):
        return
    environment = dict(os.environ) | ENVIRONMENT
    if shim.compiler():
        environment["LD_PRELOAD"] = str(shim.build(folder).resolve())
    os.execve(
        sys.executable, [sys.executable, "-m", "tests.faults", *sys.argv[1:], "--folder", str(folder)], environment
    )


if __name__ == "__main__":
    sys.exit(main())
