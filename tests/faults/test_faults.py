"""Some hundred damages, kills, failing calls and pairs of commands, always the same ones (docs/reliability.md).

BASISCLI_FAULTS_SEED draws others. The campaign is `python -m tests.faults --hours 1`.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults import shim

TRIALS = {"damages": 200, "kills": 20, "io": 20, "pairs": 10}
SEED = "21"


@pytest.fixture(scope="module")
def campaign(tmp_path_factory) -> tuple[str, list[dict]]:
    """What a small campaign said, and the results of its trials."""
    folder = tmp_path_factory.mktemp("faults")
    seed = os.environ.get("BASISCLI_FAULTS_SEED", SEED)
    many = [word for kind, number in TRIALS.items() for word in (f"--{kind}", str(number))]
    ran = subprocess.run(
        [sys.executable, "-m", "tests.faults", *many, "--seed", seed, "--folder", str(folder)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert ran.returncode in (0, 1), ran.stderr
    return ran.stdout, [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("kind", TRIALS)
def test_faults_leave_results_or_one_clear_line(campaign, kind):
    if kind == "io" and not shim.compiler():
        pytest.skip("needs a C compiler")
    told, results = campaign
    verdicts = [result["verdict"] for result in results if result["kind"] == kind]
    assert verdicts == ["clean"] * TRIALS[kind], told
