"""Every CUDA source compiles for real cards, without a warning, and its kernels fit their registers."""

import re

import pytest

from tests.emulation import fake, nvrtc

pytestmark = pytest.mark.slow
ARCHITECTURES = ("sm_80", "sm_90")
# Bytes that a kernel may spill from registers into memory: three spill up to five of 128 registers.
SPILLED = 32
# What ptxas says of a kernel: its name, the bytes that it spills, its registers.
REPORT = re.compile(r"Function properties for (\w+)\s.*?(\d+) bytes spill stores.*?Used (\d+) registers", re.S)


def sources():
    with fake.installed():
        from basiscli.kernels import device

        for family in device.FAMILIES:
            for precision in device.PRECISIONS if family == "convolution" else ("float32",):
                text, options = device.source(family), device.options(precision)
                yield pytest.param(family, text, options, id=f"{family}-{precision}")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("family, source, options", list(sources()))
def test_it_compiles(family, source, options, architecture, request):
    told = (*options, f"--gpu-architecture={architecture}", "--ptxas-options=-v", "-Werror=all-warnings")
    log = nvrtc.compiled(source, told)
    assert "warning" not in log
    report = REPORT.findall(log)
    lines = [f"{name}: {registers} registers, {spilled} bytes spilled" for name, spilled, registers in report]
    # Kept in .pytest_cache/v/cuda.
    request.config.cache.set(f"cuda/{architecture}/{family}/{options[-1]}", lines)
    assert report, log
    for name, spilled, registers in report:
        assert int(spilled) <= SPILLED and int(registers) <= 255, f"{family}, {architecture}: {name}\n{log}"
