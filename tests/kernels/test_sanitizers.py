"""The kernels under g++'s sanitizers for addresses and undefined behaviour, in a process of its own.

There every byte beside an array and of memory that is free is poisoned. Indices that leave an array, shifts and sums
that overflow, and pointers that are not aligned end the process.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.emulation import emulation, fake

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
# A plain kernel each that must be found, with what is said of it.
WRONG = {
    "x[8] = 1;": "use-after-poison",
    "int i = 1 << 30; x[0] = i * (int)(blockIdx.x + 2);": "signed integer overflow",
    "float a[4]; a[blockIdx.x + 4] = 1; x[0] = a[0];": "out of bounds",
    "*(float4*)(x + 1) = float4{0, 0, 0, 0};": "misaligned address",
}


def sanitized(*words: str) -> subprocess.CompletedProcess:
    """Run this file as a script with the sanitizers' libraries."""
    compiler = shutil.which("g++") or pytest.skip("needs g++")
    libraries = [
        subprocess.run([compiler, f"-print-file-name=lib{name}.so"], capture_output=True, text=True).stdout.strip()
        for name in ("asan", "ubsan")
    ]
    if not all(os.path.isabs(path) for path in libraries):  # noqa: PTH117  (g++ answers with the bare name)
        pytest.skip("needs g++'s sanitizers")
    environment = os.environ | {
        "BASISCLI_SANITIZE": "1", "LD_PRELOAD": " ".join(libraries), "PYTHONPATH": str(ROOT), "PYTHONMALLOC": "malloc",
        "ASAN_OPTIONS": "detect_leaks=0,verify_asan_link_order=0",
    }  # fmt: skip
    return subprocess.run([sys.executable, __file__, *words], capture_output=True, text=True, env=environment)


def test_every_kernel():
    done = sanitized()
    assert done.returncode == 0 and "every kernel is right" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("body", WRONG)
def test_a_wrong_one_is_found(body):
    done = sanitized(body)
    assert done.returncode and WRONG[body] in done.stderr, done.stdout + done.stderr


def every_kernel() -> None:
    """Run all kernels on small odd shapes, those of convolutions in two precisions; they are compared as well."""
    from basiscli.device import placement, selftest

    for precision in ("float32", "bf16"):
        with placement.using("cuda", precision):
            wrong = [record for record in selftest.check_kernels(precision, timed=False) if not record["ok"]]
        assert not wrong, wrong
    print("every kernel is right")


def one_kernel(body: str) -> None:
    """Run one block of a kernel on an array of eight floats."""
    import cupy
    import numpy as np

    source = f'extern "C" __global__ void wrong(float* x) {{ {body} }}\n'
    x = cupy.empty(8, np.float32)
    emulation.run(source, 0, "wrong", (1, 1, 1), 32, [x._a])


if __name__ == "__main__":
    with fake.installed():
        every_kernel() if len(sys.argv) == 1 else one_kernel(sys.argv[1])
    sys.stdout.flush()
    os._exit(0)  # numpy's memory, which is poisoned, is not to be tidied up
